"""Tests of C{kolus.clients}, with the real servers."""
