"""Resources of xDS -> blocks of our own schema (`config/schema`). Pure: the result depends on the message only.

view  reads a message so that no field is overlooked       fields  fields that may be ignored       messages  known types
clusters, endpoints, listeners, managers, routes, filters, tls, formats, ...  a file for each kind of message

A field that is neither read nor known as harmless rejects its resource, because most of them narrow a match, restrict
access or change a destination.
"""
