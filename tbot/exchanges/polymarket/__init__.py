"""Polymarket's CLOB behind the gateway protocol."""
