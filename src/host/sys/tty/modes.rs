//! Encodes a terminal's modes for SSH: RFC 4254, section 8, and RFC 8160 for IUTF8. Pure.

use libc::{speed_t, tcflag_t};

/// Special characters by opcode, and where termios(3) keeps them. Linux has no DSUSP (11), FLUSH
/// (15) and STATUS (17).
const CHARACTERS: [(u8, usize); 15] = [
    (1, libc::VINTR),
    (2, libc::VQUIT),
    (3, libc::VERASE),
    (4, libc::VKILL),
    (5, libc::VEOF),
    (6, libc::VEOL),
    (7, libc::VEOL2),
    (8, libc::VSTART),
    (9, libc::VSTOP),
    (10, libc::VSUSP),
    (12, libc::VREPRINT),
    (13, libc::VWERASE),
    (14, libc::VLNEXT),
    (16, libc::VSWTC),
    (18, libc::VDISCARD),
];

const INPUT: [(u8, tcflag_t); 13] = [
    (30, libc::IGNPAR),
    (31, libc::PARMRK),
    (32, libc::INPCK),
    (33, libc::ISTRIP),
    (34, libc::INLCR),
    (35, libc::IGNCR),
    (36, libc::ICRNL),
    (37, libc::IUCLC),
    (38, libc::IXON),
    (39, libc::IXANY),
    (40, libc::IXOFF),
    (41, libc::IMAXBEL),
    (42, libc::IUTF8),
];

const LOCAL: [(u8, tcflag_t); 13] = [
    (50, libc::ISIG),
    (51, libc::ICANON),
    (52, libc::XCASE),
    (53, libc::ECHO),
    (54, libc::ECHOE),
    (55, libc::ECHOK),
    (56, libc::ECHONL),
    (57, libc::NOFLSH),
    (58, libc::TOSTOP),
    (59, libc::IEXTEN),
    (60, libc::ECHOCTL),
    (61, libc::ECHOKE),
    (62, libc::PENDIN),
];

const OUTPUT: [(u8, tcflag_t); 6] = [
    (70, libc::OPOST),
    (71, libc::OLCUC),
    (72, libc::ONLCR),
    (73, libc::OCRNL),
    (74, libc::ONOCR),
    (75, libc::ONLRET),
];

/// Opcodes of the input and the output speed (`TTY_OP_ISPEED`, `TTY_OP_OSPEED`).
const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;
/// Position of the input speed, above the output speed, in the control modes (ioctl_tty(2),
/// IBSHIFT).
const INPUT_SHIFT: u32 = 16;

/// The value for a special character that is switched off.
const NONE: u32 = 255;
/// Linux's value for a character that is switched off (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// Speeds in bits per second, by their codes.
const SPEEDS: [(speed_t, u32); 31] = [
    (libc::B0, 0),
    (libc::B50, 50),
    (libc::B75, 75),
    (libc::B110, 110),
    (libc::B134, 134),
    (libc::B150, 150),
    (libc::B200, 200),
    (libc::B300, 300),
    (libc::B600, 600),
    (libc::B1200, 1200),
    (libc::B1800, 1800),
    (libc::B2400, 2400),
    (libc::B4800, 4800),
    (libc::B9600, 9600),
    (libc::B19200, 19_200),
    (libc::B38400, 38_400),
    (libc::B57600, 57_600),
    (libc::B115200, 115_200),
    (libc::B230400, 230_400),
    (libc::B460800, 460_800),
    (libc::B500000, 500_000),
    (libc::B576000, 576_000),
    (libc::B921600, 921_600),
    (libc::B1000000, 1_000_000),
    (libc::B1152000, 1_152_000),
    (libc::B1500000, 1_500_000),
    (libc::B2000000, 2_000_000),
    (libc::B2500000, 2_500_000),
    (libc::B3000000, 3_000_000),
    (libc::B3500000, 3_500_000),
    (libc::B4000000, 4_000_000),
];

/// Returns all modes of the table that Linux has, by their opcodes.
#[must_use]
pub(crate) fn encode(termios: &libc::termios) -> Vec<(u8, u32)> {
    let character = |&(opcode, at): &(u8, usize)| {
        let value = termios.c_cc.get(at).copied().filter(|value| *value != DISABLED);
        (opcode, value.map_or(NONE, u32::from))
    };
    let flags = |word: tcflag_t, table: &[(u8, tcflag_t)]| -> Vec<(u8, u32)> {
        table.iter().map(|(opcode, flag)| (*opcode, u32::from(word & flag != 0))).collect()
    };
    let control = termios.c_cflag;
    let size = control & libc::CSIZE;
    let mut modes: Vec<(u8, u32)> = CHARACTERS.iter().map(character).collect();
    modes.extend(flags(termios.c_iflag, &INPUT));
    modes.extend(flags(termios.c_lflag, &LOCAL));
    modes.extend(flags(termios.c_oflag, &OUTPUT));
    // The size of characters is a number, not flags: CS7 is one of the bits of CS8.
    modes.extend([(90, u32::from(size == libc::CS7)), (91, u32::from(size == libc::CS8))]);
    modes.extend(flags(control, &[(92, libc::PARENB), (93, libc::PARODD)]));
    let output = speed(control & libc::CBAUD);
    // An input speed of zero means the output speed (termios(3), cfsetispeed).
    let input = speed((control & libc::CIBAUD) >> INPUT_SHIFT).filter(|input| *input != 0).or(output);
    modes.extend(input.map(|input| (INPUT_SPEED, input)));
    modes.extend(output.map(|output| (OUTPUT_SPEED, output)));
    modes
}

/// Returns a code's speed; `None` if it isn't in the table (BOTHER), and then the other end keeps
/// its own.
fn speed(code: speed_t) -> Option<u32> {
    SPEEDS.iter().find(|(known, _)| *known == code).map(|(_, speed)| *speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: libc::termios = libc::termios {
        c_iflag: 0,
        c_oflag: 0,
        c_cflag: 0,
        c_lflag: 0,
        c_line: 0,
        c_cc: [0; libc::NCCS],
        c_ispeed: 0,
        c_ospeed: 0,
    };

    fn value(termios: &libc::termios, opcode: u8) -> Option<u32> {
        let modes = encode(termios);
        let found: Vec<u32> = modes.iter().filter(|(known, _)| *known == opcode).map(|(_, v)| *v).collect();
        assert!(found.len() <= 1, "{opcode} twice");
        found.first().copied()
    }

    #[test]
    fn every_flag_alone_is_its_opcode() {
        type Set = fn(&mut libc::termios, tcflag_t);
        let input: Set = |termios, flag| termios.c_iflag = flag;
        let local: Set = |termios, flag| termios.c_lflag = flag;
        let output: Set = |termios, flag| termios.c_oflag = flag;
        let control: Set = |termios, flag| termios.c_cflag = flag;
        let parity = [(92, libc::PARENB), (93, libc::PARODD)];
        for (set, table) in [(input, &INPUT[..]), (local, &LOCAL), (output, &OUTPUT), (control, &parity)] {
            for &(opcode, flag) in table {
                let mut termios = PLAIN;
                set(&mut termios, flag);
                let on: Vec<u8> = encode(&termios)
                    .into_iter()
                    .filter(|(known, value)| (30..128).contains(known) && *value == 1)
                    .map(|(known, _)| known)
                    .collect();
                assert_eq!(on, [opcode]);
                assert_eq!(value(&PLAIN, opcode), Some(0), "{opcode}");
            }
        }
    }

    /// A few of each of the RFC's groups, and of its ends: an error in a table shifts everything
    /// after it.
    #[test]
    fn opcodes_are_those_of_the_rfc() {
        let found = |(opcode, _): &(u8, tcflag_t), (known, _): &(u8, tcflag_t)| opcode == known;
        for (table, known) in [
            (&INPUT[..], [(30, libc::IGNPAR), (36, libc::ICRNL), (42, libc::IUTF8)]),
            (&LOCAL, [(50, libc::ISIG), (53, libc::ECHO), (62, libc::PENDIN)]),
            (&OUTPUT, [(70, libc::OPOST), (72, libc::ONLCR), (75, libc::ONLRET)]),
        ] {
            for known in known {
                assert_eq!(table.iter().find(|entry| found(entry, &known)), Some(&known));
            }
        }
        assert_eq!(CHARACTERS[..5].iter().map(|(opcode, _)| *opcode).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(CHARACTERS.contains(&(10, libc::VSUSP)) && CHARACTERS.contains(&(18, libc::VDISCARD)));
        let mut eight = PLAIN;
        eight.c_cflag = libc::CS8;
        assert_eq!((value(&eight, 90), value(&eight, 91)), (Some(0), Some(1)));
    }

    #[test]
    fn every_character_has_its_opcode() {
        for (opcode, at) in CHARACTERS {
            let mut termios = PLAIN;
            termios.c_cc[at] = 0x1c;
            assert_eq!(value(&termios, opcode), Some(0x1c));
            assert_eq!(value(&PLAIN, opcode), Some(255), "{opcode} is switched off");
            let others = CHARACTERS.iter().filter(|(other, _)| *other != opcode);
            assert!(others.into_iter().all(|(other, _)| value(&termios, *other) == Some(255)));
        }
        for absent in [0, 11, 15, 17] {
            assert_eq!(value(&PLAIN, absent), None);
        }
    }

    #[test]
    fn speeds_are_bits_per_second() {
        for (code, input, output) in [
            (libc::B0, Some(0), Some(0)),
            (libc::B38400, Some(38_400), Some(38_400)),
            (libc::B4000000, Some(4_000_000), Some(4_000_000)),
            (libc::B9600 | libc::B300 << INPUT_SHIFT, Some(300), Some(9600)),
            (libc::BOTHER, None, None),
        ] {
            let termios = libc::termios { c_cflag: code, ..PLAIN };
            assert_eq!((value(&termios, 128), value(&termios, 129)), (input, output), "{code:o}");
        }
    }

    /// The modes fit a request of limited length.
    #[test]
    fn the_list_is_short() {
        assert_eq!(encode(&PLAIN).len(), 53);
    }
}
