//! What a scan runs over: bounds and a prefix become two bounds.

use std::ops::Bound;

/// Bounds of keys as a program gives them; each may be missing.
#[derive(Default)]
pub(crate) struct Limits<'a> {
    pub lower: Option<&'a [u8]>,
    pub lower_exclusive: bool,
    pub upper: Option<&'a [u8]>,
    pub upper_inclusive: bool,
    pub prefix: Option<&'a [u8]>,
}

impl Limits<'_> {
    /// The keys that keep to all of them.
    pub(crate) fn bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let own_lower = self.lower.map(|key| bound(key.to_vec(), !self.lower_exclusive));
        let own_upper = self.upper.map(|key| bound(key.to_vec(), self.upper_inclusive));
        let Some(prefix) = self.prefix else {
            return (own_lower.unwrap_or(Bound::Unbounded), own_upper.unwrap_or(Bound::Unbounded));
        };
        let lower = match own_lower {
            // A bound that is in the prefix, or behind it, is the tighter one.
            Some(own) if key_of(&own) >= prefix => own,
            _ => Bound::Included(prefix.to_vec()),
        };
        let upper = match (own_upper, after(prefix)) {
            (Some(own), Some(end)) if key_of(&own) < end.as_slice() => own,
            (_, Some(end)) => Bound::Excluded(end),
            (Some(own), None) => own,
            (None, None) => Bound::Unbounded,
        };
        (lower, upper)
    }
}

fn bound(key: Vec<u8>, inclusive: bool) -> Bound<Vec<u8>> {
    if inclusive { Bound::Included(key) } else { Bound::Excluded(key) }
}

fn key_of(bound: &Bound<Vec<u8>>) -> &[u8] {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => key,
        Bound::Unbounded => &[],
    }
}

/// The least key behind all that begin with `prefix`; none if nothing can be behind them.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(limits: &Limits<'_>, key: &[u8]) -> bool {
        let (lower, upper) = limits.bounds();
        (match &lower {
            Bound::Included(l) => key >= l.as_slice(),
            Bound::Excluded(l) => key > l.as_slice(),
            Bound::Unbounded => true,
        }) && (match &upper {
            Bound::Included(u) => key <= u.as_slice(),
            Bound::Excluded(u) => key < u.as_slice(),
            Bound::Unbounded => true,
        })
    }

    /// All keys of up to three bytes out of four that matter, against the plain meaning of each limit.
    #[test]
    fn bounds_mean_what_all_limits_mean_together() {
        let bytes = [0u8, 1, 0xfe, 0xff];
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for _ in 0..3 {
            let longer: Vec<Vec<u8>> = keys.iter().flat_map(|k| bytes.map(|b| [k.as_slice(), &[b]].concat())).collect();
            keys.extend(longer);
        }
        keys.sort();
        keys.dedup();
        let marks: Vec<Option<&[u8]>> = vec![None, Some(&[]), Some(&[1]), Some(&[1, 0xff]), Some(&[0xff, 0xff])];
        for lower in &marks {
            for upper in &marks {
                for prefix in &marks {
                    for flags in 0..4 {
                        let limits = Limits {
                            lower: *lower,
                            lower_exclusive: flags & 1 != 0,
                            upper: *upper,
                            upper_inclusive: flags & 2 != 0,
                            prefix: *prefix,
                        };
                        for key in &keys {
                            let key = key.as_slice();
                            let plain = lower.is_none_or(|l| if limits.lower_exclusive { key > l } else { key >= l })
                                && upper.is_none_or(|u| if limits.upper_inclusive { key <= u } else { key < u })
                                && prefix.is_none_or(|p| key.starts_with(p));
                            assert_eq!(holds(&limits, key), plain, "{lower:?} {upper:?} {prefix:?} {flags} {key:?}");
                        }
                    }
                }
            }
        }
    }
}
