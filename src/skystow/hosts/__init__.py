"""Hosts: what runs a part of skystow inside somebody else's system. They translate verbs, and hold no rules."""
