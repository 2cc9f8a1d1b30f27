"""What Redis does in one step, for a channel and for a result store."""

from typing import Final

from redis.exceptions import NoPermissionError, ResponseError

_DONE: Final = ord("1")

__all__ = (
    "FETCH",
    "FORGET",
    "LOOK",
    "RESTORE",
    "RESTORE_LONG",
    "STORE",
    "fetched",
    "is_forbidden",
    "stored_ones",
)

_BODY: Final = r"""
-- Where the text begins and ends that is the body of a message: its quotes; nothing where that is not clear at
-- one look, as there is a backslash in it.
local function body_of(raw)
    local _, begin = raw:find('"body": "', 1, true)
    if not begin then _, begin = raw:find('"body":"', 1, true) end
    local close = begin and raw:find('"', begin + 1, true)
    local backslash = close and raw:find('\\', begin + 1, true)
    if close and not (backslash and backslash < close) then return begin, close end
end
"""

_TAG: Final = (
    _BODY
    + r"""
-- The delivery tag of a message, and its exchange and its routing key as JSON, where it ends as kombu's messages do.
-- To decode all of it takes as long as everything else that Redis does to fetch it. Nothing can be mistaken: within a
-- text each quote has a backslash before it, and as the two braces at the end close what begins here and the message,
-- these are the properties of the message, and not of something in it.
local function seen_tag(raw)
    local quote = raw:find('"properties":', -1024, true)
    if not quote then return end
    local exchange, routing_key, tag = raw:match(
        '^[{, ]"properties": ?{[^{}]*, ?"delivery_info": ?{"exchange": ?("[^"\\]*"), ?"routing_key": ?("[^"\\]*")}' ..
        '[^{}]*, ?"delivery_tag": ?"([^"\\]*)"}}$', quote - 1)
    return tag, exchange, routing_key
end

-- The same of any message; fails where it cannot be decoded. To decode one of 30 MB takes 0.4 s, in which Redis does
-- nothing else, and nearly all of it is the body.
local function decoded_tag(raw)
    if #raw > 4096 then
        local begin, close = body_of(raw)
        if begin then raw = raw:sub(1, begin) .. raw:sub(close) end
    end
    local properties = cjson.decode(raw)['properties']
    local info = properties['delivery_info']
    if type(info) ~= 'table' then info = {} end
    return properties['delivery_tag'], cjson.encode(info['exchange'] or ''), cjson.encode(info['routing_key'] or '')
end

-- The same; nothing for what is no message.
local function tag_of(raw)
    local tag, exchange, routing_key = seen_tag(raw)
    if tag then return tag, exchange, routing_key end
    -- An error outside of pcall would end the script, and lose what it has taken.
    local ok, tag, exchange, routing_key = pcall(decoded_tag, raw)
    if ok and type(tag) == 'string' then return tag, exchange, routing_key end
end
"""
)

FETCH: Final = (
    _TAG
    + """
-- Takes messages from lists and records them as kombu does, both in one step.
-- KEYS: messages by tag, times by tag, the lists.
-- ARGV: the time, how many at most, from how many lists in turn, how many bytes beyond the first message.
-- Answers nothing, or the numbers of the lists, in one text, and the message from each. A client reads one text in the
-- time of one number. The messages in one text would be read much faster, and take Redis longer to make: 4 us for each.
redis.call('HLEN', KEYS[1]) -- a key of the wrong type fails here, before anything is taken
redis.call('ZCARD', KEYS[2])
local left, width, bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local out, places, times, records = {''}, {}, {}, {}
for first = 3, #KEYS, width do
    local empty = 0
    while left > 0 and empty < width do
        empty = 0
        for place = first, first + width - 1 do
            local raw = left > 0 and redis.call('RPOP', KEYS[place])
            if raw and #places > 0 then bytes = bytes - #raw end
            if raw and bytes < 0 then
                redis.call('RPUSH', KEYS[place], raw)
                left = 0
            elseif raw then
                local tag, exchange, routing_key = tag_of(raw)
                if tag then
                    times[#times + 1] = ARGV[1]
                    times[#times + 1] = tag
                    records[#records + 1] = tag
                    records[#records + 1] = '[' .. raw .. ',' .. exchange .. ',' .. routing_key .. ']'
                end
                places[#places + 1] = place - 3
                out[#out + 1] = raw
                left = left - 1
            else
                empty = empty + 1
            end
        end
    end
end
if #times > 0 then
    redis.call('ZADD', KEYS[2], unpack(times))
    redis.call('HSET', KEYS[1], unpack(records))
end
if #places == 0 then return {} end
out[1] = table.concat(places, ' ')
return out
"""
)

FORGET: Final = (
    _TAG
    + """
-- Removes the record of a message that FETCH has made, and no other message's of the same tag.
-- KEYS: messages by tag, times by tag. ARGV: the message.
local tag = tag_of(ARGV[1])
if not tag then return 0 end
local record = redis.call('HGET', KEYS[1], tag)
if not record or record:sub(2, 1 + #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], tag)
redis.call('ZREM', KEYS[2], tag)
return 1
"""
)

_IS_RECORDED: Final = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
    redis.call('ZREM', KEYS[2], ARGV[1]) -- a time without a message is of no use
    return 0
end
local recorded = ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[2], ARGV[1])
if #ARGV == 2 or recorded and tonumber(recorded) > tonumber(ARGV[2]) then return 0 end
"""

RESTORE: Final = f"""
-- Gives a message back, if it is still recorded as unacknowledged.
-- KEYS: messages by tag, times by tag. ARGV: the tag, the latest time of a record that counts or nothing, then
-- LPUSH or RPUSH, a list and the message, for each list that it belongs to: none if it was not recorded.
{_IS_RECORDED}
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for place = 3, #ARGV, 3 do redis.call(ARGV[place], ARGV[place + 1], ARGV[place + 2]) end
return 1
"""

LOOK: Final = f"""{_BODY}
-- Answers a record with a word in place of the body of its message; nothing where that cannot be done.
-- KEYS: messages by tag. ARGV: the tag, the word.
local record = redis.call('HGET', KEYS[1], ARGV[1])
local begin, close = body_of(record or '')
return begin and record:sub(1, begin) .. ARGV[2] .. record:sub(close)
"""

RESTORE_LONG: Final = f"""{_BODY}
-- As RESTORE, of a message whose body does not leave Redis. In place of the message there are two arguments,
-- what comes before the body and what comes after it.
{_IS_RECORDED}
local record = redis.call('HGET', KEYS[1], ARGV[1])
local begin, close = body_of(record)
local body = record:sub(begin + 1, close - 1)
for place = 3, #ARGV, 4 do
    redis.call(ARGV[place], ARGV[place + 1], ARGV[place + 2] .. body .. ARGV[place + 3])
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""

STORE: Final = """
-- Stores the states of tasks and publishes them, except for tasks that have succeeded.
-- KEYS: those of the tasks. ARGV: the seconds that they are kept, 0 for ever; 1 where the tasks must not
-- have ended at all, the time (date_done) since which they must not have ended, or 0; and the states.
-- Answers a digit for each: 0, where it does nothing, as it cannot read the stored state. One text is
-- read in the time of one number: 2.5 us.
local keep, out = tonumber(ARGV[1]) > 0 and {'EX', ARGV[1]} or {}, {}
local since = ARGV[2]
local function stays(meta)
    local status, done = meta['status'], meta['date_done']
    if status ~= 'FAILURE' and status ~= 'REVOKED' then return status == 'SUCCESS' end
    return since == '1' or (since ~= '0' and type(done) == 'string' and done >= since)
end
for place, key in ipairs(KEYS) do
    local state = ARGV[place + 2]
    out[place] = '1'
    if redis.call('SET', key, state, 'NX', unpack(keep)) then
        redis.call('PUBLISH', key, state)
    else
        local there = redis.call('GET', key)
        local ok, meta = pcall(cjson.decode, there)
        if not ok or type(meta) ~= 'table' then
            out[place] = '0'
        elseif not stays(meta) then
            redis.call('SET', key, state, unpack(keep))
            redis.call('PUBLISH', key, state)
        end
    end
end
return table.concat(out)
"""


def fetched(answer: list[bytes]) -> list[tuple[int, bytes]]:
    """The messages that `FETCH` has taken, each with the number of its list.

    Args:
        answer: What Redis has answered.
    """
    if not answer:
        return []
    places, *messages = answer
    return list(zip(map(int, places.split()), messages, strict=True))


def stored_ones(answer: object) -> list[bool] | None:
    """Which states `STORE` has stored, or need not; None if this is no answer of it."""
    if isinstance(answer, str):  # of a client that decodes answers
        answer = answer.encode()
    return [digit == _DONE for digit in answer] if isinstance(answer, bytes) else None


def is_forbidden(answer: object) -> bool:
    """Whether these credentials, or this server, allow no scripts."""
    return isinstance(answer, NoPermissionError) or (
        isinstance(answer, ResponseError) and "unknown command" in str(answer)
    )
