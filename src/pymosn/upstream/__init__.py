"""Which host?"""
