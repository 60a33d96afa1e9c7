"""tbot: a trading bot for prediction markets, built on structured concurrency."""

__version__ = "0.1.0"
