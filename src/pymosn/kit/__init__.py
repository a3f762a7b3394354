"""Tools for filter authors: the commands `new-filter`, `filters` and `bench-filter`.

new_filter  creates a package            package    templates of its files
listing     lists available filters      schema     describes their `Config`
bench       measures filters             bench_rig  the data path for it
commands    the commands themselves
"""
