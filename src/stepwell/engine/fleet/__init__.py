"""Workers beside each other: claims, leases, heartbeats, and who is declared dead."""
