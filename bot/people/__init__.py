"""Who somebody is at this moment (authority), and who may do what, on which runbooks and hosts (permissions)."""
