"""What the network tests are made of: hosts, programs, proxies, targets and witnesses."""
