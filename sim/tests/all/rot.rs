//! A part of all flipped bits and exchanged blocks of a closed database, drawn over all of it; `make sim` does the whole.

use corering_sim::rot::sample;

#[test]
fn rot_is_harmless_or_refused_by_its_place() {
    let [flips, swaps] = sample(0..600).unwrap();
    println!("{flips:?} {swaps:?}");
    assert!(flips.refused > 100 && swaps.refused > 50, "{flips:?} {swaps:?}");
}
