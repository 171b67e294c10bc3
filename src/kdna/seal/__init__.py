"""All cryptography: *keys* (who may do what), *slots* (secrets wrapped), *envelopes* (sealed objects).

Pure, with one exception: `keyfile_io` reads and writes key files. FORMAT.md beside this file has every byte.
"""
