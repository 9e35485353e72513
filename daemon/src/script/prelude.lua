-- What a script sees. Made anew for each run, so that no run leaves anything behind for the next; `seal` once for the machine.
local error, pcall, select, type, tostring, tonumber = error, pcall, select, type, tostring, tonumber
local pairs, ipairs, next, assert, unpack, xpcall = pairs, ipairs, next, assert, unpack, xpcall
local rawget, rawset, rawequal, setmetatable, getmetatable = rawget, rawset, rawequal, setmetatable, getmetatable
local string_match, string_sub = string.match, string.sub
local libraries = { string = string, table = table, math = math }

-- Strings share one metatable, which leads to the functions that other runs use too.
getmetatable("").__metatable = false
libraries.string.dump = nil

local function copy(from)
    local to = {}
    for name, value in pairs(from) do to[name] = value end
    return to
end

-- What was raised as a table is caught as its text, as in Redis.
local function caught(ok, problem, ...)
    if not ok and type(problem) == "table" and type(rawget(problem, "err")) == "string" then
        return false, rawget(problem, "err")
    end
    return ok, problem, ...
end

local function scripts_pcall(...) return caught(pcall(...)) end

local function reply_of_error(text)
    if type(text) ~= "string" then error("wrong number or type of arguments", 0) end
    if string_sub(text, 1, 1) == "-" then text = string_sub(text, 2) end
    if not string_match(text, " ") then text = "ERR " .. text end
    return { err = text }
end

local function reply_of_status(text)
    if type(text) ~= "string" then error("wrong number or type of arguments", 0) end
    return { ok = text }
end

local function environment(run, sha1hex, log, keys, argv)
    local redis = {
        LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
        REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
        error_reply = reply_of_error, status_reply = reply_of_status, sha1hex = sha1hex, log = log,
    }
    function redis.call(...)
        local reply, problem = run(...)
        if problem then error(problem, 0) end
        return reply
    end
    function redis.pcall(...)
        local reply, problem = run(...)
        if problem then return problem end
        return reply
    end
    -- All effects are those of one commit, whatever is asked for here.
    function redis.replicate_commands() return true end
    function redis.set_repl() end
    function redis.setresp(version)
        if version ~= 2 then error("RESP version must be 2.", 2) end
    end
    local env = {
        redis = redis, KEYS = keys, ARGV = argv, _VERSION = "Lua 5.1",
        string = copy(libraries.string), table = copy(libraries.table), math = copy(libraries.math),
        error = error, pcall = scripts_pcall, xpcall = xpcall, select = select, type = type, tostring = tostring,
        tonumber = tonumber, pairs = pairs, ipairs = ipairs, next = next, assert = assert, unpack = unpack,
        rawget = rawget, rawset = rawset, rawequal = rawequal, setmetatable = setmetatable, getmetatable = getmetatable,
    }
    env._G = env
    return setmetatable(env, {
        __index = function(_, name)
            error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
        end,
        __newindex = function() error("Attempt to modify a readonly table", 2) end,
        __metatable = false,
    })
end

return environment, pcall
