"""What happens to memories: created, changed, deleted, and looked at as they were."""
