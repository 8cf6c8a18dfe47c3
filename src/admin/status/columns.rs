//! Formats a table for people in aligned columns, as `ps` and `df` do.

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// Formats rows, with two spaces between columns and none at the end of a line.
///
/// Each row has a cell for each column; the first row is the heading.
pub fn columns<const N: usize>(align: [Align; N], rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(align).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        assert_eq!(
            columns(
                [Align::Left, Align::Right, Align::Left],
                &[row(["HOME", "USED", "x"]), row(["größer", "1.5G", ""]), row(["a", "0", "long"])]
            ),
            ["HOME    USED  x", "größer  1.5G", "a          0  long"]
        );
        assert!(columns([Align::Left], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn a_cell_starts_where_its_heading_does(rows in prop::collection::vec(prop::array::uniform3("[a-zü]{1,9}"), 1..9)) {
            let lines = columns([Align::Left, Align::Left, Align::Right], &rows);
            let starts: Vec<usize> = (0..2).map(|column| {
                rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 2
            }).collect();
            for (line, row) in lines.iter().zip(&rows) {
                let second: String = line.chars().skip(starts[0]).collect();
                prop_assert!(line.starts_with(row[0].as_str()) && second.starts_with(row[1].as_str()));
                prop_assert!(line.ends_with(row[2].as_str()));
            }
        }
    }
}
