"""Records traces in a worker.

context   what one exchange knows of its trace       ids        random ids
formats   the formats by name                        w3c, b3, jaeger, skywalking, sofa   one format each
sampling  which traces are recorded                  tracer     begins traces, and what happens to each
finished  the facts of a finished exchange           records    finished spans as plain data
buffer    finished traces until they are sent
"""
