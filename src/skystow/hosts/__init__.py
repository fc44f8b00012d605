"""Hosts: what an observatory's own framework speaks, translated into the commands of a component, and nothing else."""
