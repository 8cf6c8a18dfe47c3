"""What users and administrators are told, in one place: (message, log line) as regular expressions.

Each refusal has a message whose second line says what to do, and a log line of its own.
"""

#: In each log line of ours about a login.
WHO = r"user=\S+ peer=10\.77\.1\.\d"

_NO_TOKEN = r"No token was entered\.\nPaste a JupyterHub token"
_NOT_YOURS = r"This token does not belong to \w+\.\nCheck the user name, or make a token at http"
_LATER = r"Try again in a minute"

REFUSALS = {
    "wrong": (
        r"does not accept this token.*\nMake a new one at http.*/hub/token",
        r"refused the token with status 403",
    ),
    "expired": (r"expired.*\nMake a new one at http.*/hub/token", r"refused the token with status 403"),
    "revoked": (r"revoked.*\nMake a new one at http.*/hub/token", r"refused the token with status 403"),
    "other-user": (_NOT_YOURS, r'belongs to another user, \\"bob\\" \(token id \w+\)'),
    "admin": (_NOT_YOURS, r'belongs to another user, \\"admin\\" \(token id \w+\)'),
    "service": (_NOT_YOURS, r'belongs to the service \\"plain\\", not to a user'),
    "no-scope": (
        r"not allowed to open the server\.\nMake one at http",
        r"scopes do not cover access .*\(token id \w+\)",
    ),
    "server": (
        r"belongs to a server or a program, not to you\.\nMake one of your own at http\S*/hub/token,",
        r"not the user's own: it looks like the user's server's \(.*\) \(token id \w+\)",
    ),
    # Before JupyterHub 5.0 nothing tells the token's id.
    "server-of-old": (
        r"belongs to a server or a program, not to you\.\nMake one of your own at http\S*/hub/token,",
        r"not the user's own: it looks like the user's server's",
    ),
    "program": (
        r"belongs to a server or a program, not to you\.\nMake one of your own at http\S*/hub/token,",
        r"not the user's own: the hub has given it to a server or service .*\(token id \w+\)",
    ),
    "control-characters": (r"not a JupyterHub token.*\nPaste the token alone", r"characters that no token has"),
    "empty": (_NO_TOKEN, r"no token was entered"),
    "unknown-user": (_NOT_YOURS, r'belongs to another user, \\"alice\\"'),
    "hub-down": (rf"cannot be reached.*\n{_LATER}", r"GET /hub/api/user: no connection"),
    "hub-dropped": (
        rf"(did not answer in time|cannot be reached).*\n{_LATER}",
        r"GET /hub/api/user: no (complete answer within|connection)",
    ),
    "hub-hanging": (rf"did not answer in time.*\n{_LATER}", r"GET /hub/api/user: no complete answer within 9\.\d s"),
    "hub-dripping": (rf"did not answer in time.*\n{_LATER}", r"GET /hub/api/user: no complete answer within 9\.\d s"),
    "hub-500": (rf"has a problem.*\n{_LATER}", r"GET /hub/api/user: status 500"),
    "hub-garbage": (rf"connection to the hub broke.*\n{_LATER}", r"GET /hub/api/user: the connection broke"),
    "hub-not-json": (rf"answer was not understood.*\n{_LATER}", r"answer was not understood"),
    "hub-10-megabytes": (r"cannot talk to its hub.*\nTell the administrator", r"answer is longer than \d+ bytes"),
    "hub-redirect": (r"cannot talk to its hub.*\nTell the administrator", r"redirected \(30\d\) to .*not followed"),
    "not-configured": (r"", r"hub\.url"),
}

#: What the prompt says: where a token is to be had.
PROMPT = r"{url}/hub/token"

#: What the user sees when the connection to the server is made again in mid-session.
RECONNECTED = r"(?i)reconnect|connected again|connection .*(restored|back)"

#: What sftp says instead of files: (message, log line). sshd throws away what a subsystem writes to standard error, so it
#: has to come in the answers of the protocol itself.
NO_FILES = {
    "missing": (r"no home directory .*\nStart your Jupyter server once", r"/srv/homes/\S+ does not exist"),
    "not-theirs": (
        r"does not belong to you\.\nTell the administrator",
        r"/srv/homes/\S+ (belongs to|is not a directory|is a symbolic link)",
    ),
    "not-created": (
        r"missing and could not be made\.\nTell the administrator",
        r"/srv/homes/\S+ could not be created: ",
    ),
    "failed": (r"cannot be reached from this host\.\nLog in again", r"homes\.root /srv/not-mounted"),
    "closed": (r"cannot be entered.*\nLog in again", r""),
}
