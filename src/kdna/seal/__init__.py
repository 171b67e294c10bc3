"""All cryptography: *keys* (who may do what), *slots* (a key wrapped for its holder), *envelopes* (sealed objects). Pure; no I/O."""
