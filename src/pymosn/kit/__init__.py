"""What helps to write filters: the commands `new-filter`, `filters` and `bench-filter`.

new_filter  a package to begin with      templates  its files
listing     which filters there are      schema     what their `Config` takes
bench       what a filter costs          bench_rig  the data path that it is measured in
commands    the commands themselves
"""
