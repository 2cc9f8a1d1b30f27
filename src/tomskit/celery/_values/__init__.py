"""Arguments and results: what goes over the wire, and what comes back from it.

    codec       a task's arguments and result, to the wire and back
    parameters  the arguments, by the annotations of the parameters
    results     the result, by the annotation of the function
    progress    what a task reports while it runs
    slots       one parameter or result: what it expects, and whether a value arrives as it was
    schemas     pydantic's schemas of annotations, and what they cannot hold
    plain       the quick check of calls that have plain arguments only
    wire        the wire form of values
    models      models on the wire, and which of their fields were not set
    members     members of enums and Literals, whose values have another form on the wire
    marks       values that JSON does not have, as kombu marks them
    fast_json   JSON by orjson, where it can be imported
    conversion  the table of converters, one for each type, of `wire` and `marks`
    sameness    whether a value arrives as its annotation says, and which part does not
    parts       a value and what has arrived for it, and the parts of both
    nesting     how deeply a value is nested, and whether it is in itself
    stored_errors  errors of tasks, as they are stored
    read_errors  errors of tasks, made again of that

Serializers get values in their wire form, so they need not know any other type.
"""
