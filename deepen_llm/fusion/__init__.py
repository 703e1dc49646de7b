"""Fusion methods: mathematics that turns the members' next-token distributions into one."""
