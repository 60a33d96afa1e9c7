"""A local exchange: matching engine, synthetic traders, faults, gateway and server."""
