"""Protocols and reports. No paper is named here."""
