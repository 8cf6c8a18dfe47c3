"""Programs that type a password at ssh's prompt work here as with stock sshd, without a setting."""

import pytest
from pexpect import pxssh

from lib.actors.passwords import programs

WRONG = "0123456789abcdef0123456789abcdef"


def test_programs_that_type_passwords(bastion, client, alice):
    """sshpass, pxssh, lftp, sshfs and a script of expect: each finds the prompt, at the first and at the second try."""
    with programs(client, bastion, "alice") as run:
        assert run.sshpass(alice.token) == 0
        assert run.sshpass(WRONG) == 5, "sshpass tells by the second prompt that the password was wrong"
        assert "let-in" in run.pxssh(alice.token)
        with pytest.raises(pxssh.ExceptionPxssh, match="password refused"):
            run.pxssh(WRONG)
        listed, said = run.lftp(alice.token)
        assert listed, said
        listed, said = run.lftp(WRONG)
        assert not listed and "Login incorrect" in said, said
        assert isinstance(run.sshfs(alice.token), list)
        # At the third refusal ssh goes over to the method `password`, which has a prompt of its own.
        status, said = run.expect(WRONG, WRONG, WRONG, alice.token)
        assert status == 0, said
        assert said.count("If ssh asks for a password next, that is the token as well.") == 3, said
        assert said.count(f"from {alice.hub.url}/hub/token as alice's password: ") == 3, said
        assert f"{run.host}'s password: " in said, said
