//! Damage in the middle of a log that a killed process left: the opening is refused with the file's name, or all is there.
//!
//! Only batches below the durable mark are damaged: what a crash may tear cannot be told from what it tore.

use std::cell::RefCell;
use std::rc::Rc;

use corering_engine::Error;
use corering_engine::check::check_on;
use corering_engine::format::batch::{BATCH_HEADER_LEN, HeaderAt, decode_header};
use corering_engine::runtime::BLOCK;
use corering_engine::runtime::sim::{Disk, Rng, Sim};

use super::world::World;
use super::{Slot, close, open_once, verify};
use crate::support::text;

/// A batch of which a later one, of the same shard, knew that it was durable.
struct Settled {
    path: String,
    offset: usize,
    len: usize,
}

fn settled_batches(disk: &Disk) -> Vec<Settled> {
    let mut found = Vec::new();
    for (path, _) in disk.files().into_iter().filter(|(path, _)| path.ends_with(".seg")) {
        let bytes = disk.read(&path).unwrap_or_default();
        for offset in (BLOCK..bytes.len()).step_by(BLOCK) {
            if let HeaderAt::Valid(header) = decode_header(&bytes[offset..]) {
                let batch = Settled { path: path.clone(), offset, len: BATCH_HEADER_LEN + header.payload_len as usize };
                found.push((header, batch));
            }
        }
    }
    let mark = |shard| found.iter().filter(|(h, _)| h.shard == shard).map(|(h, _)| h.durable).max().unwrap_or_default();
    let marks: Vec<_> = found.iter().map(|(header, _)| header.end() <= mark(header.shard)).collect();
    found.into_iter().zip(marks).filter_map(|((_, batch), settled)| settled.then_some(batch)).collect()
}

/// Damage a copy of the disk, if there is such a batch, and see what an opening says.
pub fn strike(world: &World, seed: u64) -> Result<(), String> {
    let mut rng = Rng::stream(seed, "damage");
    let mut disk = world.sim.disk(|disk| disk.clone());
    let batches = settled_batches(&disk);
    if batches.is_empty() {
        return Ok(());
    }
    let Settled { path, offset, len } = rng.pick(&batches);
    let what = if rng.coin() {
        let at = offset + rng.index(*len);
        disk.flip_bit(path, at as u64, rng.below(8) as u8).map_err(text)?;
        format!("a flipped bit in byte {at} of {path}")
    } else {
        let mut bytes = disk.read(path).map_err(text)?;
        bytes[*offset..offset + BLOCK].fill(0);
        disk.write(path, &bytes).map_err(text)?;
        format!("zeros at byte {offset} of {path}")
    };
    world.account.borrow_mut().act("damage of a log");
    let sim = Sim::with(seed, world.mix.machine.clone(), disk);
    // Its wall clock begins anew, and what has expired stays so.
    sim.jump_wall_ms(i64::try_from(world.sim.now_ns() / 1_000_000 + world.jumped_ms.get()).unwrap_or(i64::MAX));
    let copy = Rc::new(world.copied_to(&sim));
    let seen = sim.block_on(look(Rc::clone(&copy), path.clone(), rng)).map_err(text).and_then(|seen| seen);
    sim.power_off();
    let refused = seen.map_err(|e| format!("{what}: {e}"))?;
    world.account.borrow_mut().act(if refused { "damage that was refused" } else { "damage that did not matter" });
    Ok(())
}

/// Whether the opening was refused; an error if it served something wrong, or refused without the place.
async fn look(world: Rc<World>, path: String, mut rng: Rng) -> Result<bool, String> {
    let host = world.sim.host();
    let report = check_on(host.clone(), &mut |_| ()).await.map_err(text)?;
    match open_once(&world, &host, &mut rng).await {
        Ok(engine) => {
            let slot: Slot = Rc::new(RefCell::new(None));
            let seen = verify(&world, &engine).await;
            close(&world, &slot, &engine).await?;
            seen.map(|()| false)
        }
        Err(error @ Error::Corrupt { .. }) if error.to_string().contains(&path) => {
            let named = report.damages.iter().any(|damage| damage.path.ends_with(&path));
            if named {
                Ok(true)
            } else {
                Err(format!("refused with '{error}', but the check found no damage there: {report}"))
            }
        }
        Err(error) => Err(format!("refused, but not by its name: {error}")),
    }
}
