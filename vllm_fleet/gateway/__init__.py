"""The front door: which URLs lead to which model server, who may use them, and what HAProxy is told of it. Pure."""
