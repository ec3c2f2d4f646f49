"""Label Studio, where people label: its server, what is pushed to it and pulled from it, all over plain HTTP."""
