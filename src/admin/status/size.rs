//! Formats sizes for people, in the units of the configuration.

/// Formats a number of bytes with a unit of 1024, 1024², … bytes: `0`, `512B`, `4K`, `1.5G`, `2T`.
///
/// There are at most four digits, and a fraction only below ten.
pub fn human(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    // Wide enough for u64::MAX in tenths.
    let exact = u128::from(bytes);
    let mut scale: u128 = 1;
    for unit in ['B', 'K', 'M', 'G', 'T', 'P', 'E'] {
        let tenths = (exact * 10 + scale / 2) / scale;
        if tenths < 100 && tenths % 10 != 0 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        let whole = (exact + scale / 2) / scale;
        if whole < 1024 {
            return format!("{whole}{unit}");
        }
        scale *= 1024;
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_short_and_round_ones_stay_round() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 10, "10K"),
            ((10 << 10) + 511, "10K"),
            ((1 << 20) - 1, "1M"),
            (1 << 20, "1M"),
            ((1 << 20) + 52_428, "1M"),
            ((1 << 20) + 52_429, "1.1M"),
            (500 << 20, "500M"),
            (1 << 30, "1G"),
            (2 << 40, "2T"),
            (1 << 60, "1E"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn no_size_is_long_or_far_off(bytes in 1_u64.., shift in 0_u32..64) {
            let bytes = (bytes >> shift).max(1);
            let text = human(bytes);
            prop_assert!(text.len() <= 5, "{text}");
            let (number, unit) = text.split_at(text.len() - 1);
            let scale = 1024_f64.powi("BKMGTPE".find(unit).unwrap().try_into().unwrap());
            let shown = number.parse::<f64>().unwrap() * scale;
            #[allow(clippy::cast_precision_loss)]
            let off = (shown - bytes as f64).abs() / bytes as f64;
            prop_assert!(off <= 0.051, "{bytes} {text} {off}");
        }
    }
}
