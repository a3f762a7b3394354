"""HTTP/2 connections, their streams and windows."""
