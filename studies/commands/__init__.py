"""The commands of `ceiling`, a module a group. Heavy imports stand inside the functions: `--help` is instant."""
