"""What proxies that nobody here wrote can do, and what Sluice makes of them (scripts/matrix)."""
