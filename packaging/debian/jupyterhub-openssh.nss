# Last: a local account, in files or in a directory service, always wins over a hub user of the same name.
passwd last jupyterhub
group last jupyterhub
# Few hosts have this line; where it exists, glibc uses it instead of "group" to find a user's groups.
initgroups database-require
initgroups last jupyterhub
