"""Who somebody is: the credentials that agents, clients and operators show at the ports."""
