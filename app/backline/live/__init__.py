"""Live sound: devices, the host that they call, and sessions of models on them."""
