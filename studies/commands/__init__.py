"""The commands of `ceiling`, a module a group. Heavy imports stand inside functions: `--help` is instant."""
