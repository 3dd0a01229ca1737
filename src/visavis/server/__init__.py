"""The HTTP service and its page. It serves pictures by id only and never fetches an address."""
