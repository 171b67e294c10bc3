"""What every command line shares: the options that stand before the group or after the command, and their classes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETING = "_KDNA_COMPLETE"  # set by the script of `kdna completion` when a shell asks what may follow
F = TypeVar("F", bound=Callable[..., Any])


class Settings:
    """How to talk to the user; the object of every click context."""

    def __init__(self, json: bool = False, debug: bool = False) -> None:
        self.json = json
        self.quiet = False
        self.verbose = False
        self.debug = debug


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and parameter.name:
        setattr(context.ensure_object(Settings), parameter.name, True)


def everywhere() -> list[click.Parameter]:
    """The options that the program, every group and every command take."""
    return [
        _flag("--json", help="Machine-readable output: JSON on standard output."),
        _flag("-q", "--quiet", help="Say nothing unless something is wrong."),
        _flag("-v", "--verbose", help="Say more."),
        _flag("--debug", help="Show where in the program an error happened."),
    ]


def _flag(*names: str, help: str) -> click.Option:
    return click.Option(names, is_flag=True, expose_value=False, callback=_remember, help=help)


def answer(text: Callable[[click.Context], str]) -> Callable[[click.Context, click.Parameter, bool], None]:
    """For an option that prints something and ends: as other answers, since stdout may be full, or nobody read it."""

    def say_it(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            from kdna.cli.output import say  # only these options need it here

            say(text(context))
            context.exit()

    return say_it


class _Helpful(click.Command):
    """A command whose help is an answer like any other."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """The option --help."""
        found = super().get_help_option(ctx)
        if found is not None:
            found.callback = answer(click.Context.get_help)
        return found


class Command(_Helpful):
    """A command that takes the common options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += everywhere()


class Group(_Helpful, click.Group):
    """A group that takes the common options too, and answers a wrong command with those there are.

    `more` are commands in modules of their own, by name: the module of `kdna.cli` whose `command` each is, loaded when
    it is needed.
    """

    command_class = Command

    def __init__(self, *args: Any, more: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += everywhere()
        self._more = more or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, sorted."""
        return sorted([*super().list_commands(ctx), *self._more])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, loaded now where it has a module of its own; - and _ in its name are the same."""
        name = self._spelling(ctx, cmd_name)
        if name in self._more:
            command: click.Command = importlib.import_module(f"kdna.cli.{self._more[name]}").command
            return command
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help: the whole first sentence of each, where click would cut it short."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, found.get_short_help_str(limit=10_000)) for name, found in commands if found])

    def _spelling(self, ctx: click.Context, name: str) -> str:
        """A name as `list_commands` has it, if it is one of those."""
        names = (known for known in self.list_commands(ctx) if known.replace("_", "-") == name.replace("_", "-"))
        return next(names, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant."""
        names = self.list_commands(ctx)
        wrong = args and self._spelling(ctx, args[0]) not in names and not args[0].startswith("-")
        if wrong and not ctx.resilient_parsing:  # as when a shell completes a line
            told = f"there is no command '{args[0]}' here: there are {', '.join(names)}"
            elsewhere = _places(ctx.find_root(), args[0])
            raise click.UsageError(f"{told}. Perhaps you mean {' or '.join(elsewhere)}" if elsewhere else told, ctx)
        return super().resolve_command(ctx, args)


def _places(program: click.Context, name: str) -> list[str]:
    """Command lines of the groups that have a command of this name."""
    groups = program.command
    if not isinstance(groups, Group):
        return []
    found = [(group, groups.get_command(program, group)) for group in groups.list_commands(program)]
    return [
        f"'{program.info_name} {group} {name}'"
        for group, command in found
        if isinstance(command, Group) and command.get_command(program, name)
    ]


class _Truth(click.types.BoolParamType):
    """True or false, in the words that click knows, and a plain sentence for any other."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """The value. Raises `click.BadParameter`."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"'{value}' is neither true nor false.", param, ctx)


TRUTH = _Truth()


def accept_new_host_key(command: F) -> F:
    """The option that answers the question about an unknown host key."""
    return click.option(
        "--accept-new-host-key",
        is_flag=True,
        help="Trust the host key of a server met for the first time, without asking.",
    )(command)


def yes(command: F) -> F:
    """The option that answers the question of a command that changes or deletes something."""
    return click.option("-y", "--yes", is_flag=True, help="Do it without asking.")(command)


def server(command: F) -> F:
    """The option that narrows a command to one server."""
    return click.option("-s", "--server", metavar="ALIAS", help="The server, by alias or id.", shell_complete=servers)(
        command
    )


def servers(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """For `shell_complete`: aliases of servers."""
    return _suggest("server_names", begun)


def auto_backups(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """For `shell_complete`: ids of auto-backups."""
    return _suggest("auto_backup_names", begun)


def ssh_hosts(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """For `shell_complete`: hosts of the ssh config."""
    return _suggest("ssh_hosts", begun)


def files(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem[str]]:
    """For `shell_complete`: paths on this machine, as the shell completes them."""
    from click.shell_completion import CompletionItem  # only a completion needs it

    return [CompletionItem(begun, type="file")]


def _suggest(what: str, begun: str) -> list[CompletionItem[str]]:
    """Names that begin as it was begun, from one function of `kdna.actions.suggesting`."""
    from click.shell_completion import CompletionItem  # as above

    suggesting = importlib.import_module("kdna.actions.suggesting")  # here, because only a completion needs it
    names: dict[str, str] = getattr(suggesting, what)()
    return [CompletionItem(name, help=about) for name, about in names.items() if name.startswith(begun)]


_RETENTION = {
    "last": ("N", "Keep the last N backups."),
    "hourly": ("N", "Keep the last backup of each of the last N hours that have one."),
    "daily": ("N", "The same for days."),
    "weekly": ("N", "The same for weeks, which begin on Monday."),
    "monthly": ("N", "The same for months."),
    "yearly": ("N", "The same for years."),
    "within": ("SPAN", "Keep all made within SPAN before the newest one: 30d, 1y6m, 2w12h."),
}


def retention(command: F) -> F:
    """The options that make a policy, given to the command as one argument `keep`: settings for `Policy.from_settings`.

    Only those are in it that were written; their values are as they were written.
    """

    @functools.wraps(command)
    def gathered(*args: Any, **chosen: Any) -> Any:
        given = {f"keep_{name}": chosen.pop(f"keep_{name}") for name in _RETENTION}
        return command(*args, keep={key: value for key, value in given.items() if value is not None}, **chosen)

    wrapped: Any = gathered
    for name, (metavar, text) in reversed(_RETENTION.items()):
        wrapped = click.option(f"--keep-{name}", metavar=metavar, help=text)(wrapped)
    option: F = wrapped
    return option
