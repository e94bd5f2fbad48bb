"""Which server plays a role, and how it is used: values that need no driver."""
