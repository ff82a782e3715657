//! The audit's part of `--json`. `docs/audit.md` says what each key means.

use super::bins::{self, AGE_EDGES, SIZE_BINS, SIZE_EDGES};
use super::cells::Cell;
use super::depth::{LEVELS_MAX, Level};
use super::findings::{Findings, Holders};
use super::kept::{KeptPath, Record};
use super::summary::{FileUsage, Usage};
use super::top::LargeFile;
use crate::plugins::format::insert_path;
use serde_json::{Map, Value, json};

/// The value under `audit`.
pub(super) fn report(findings: &Findings) -> Value {
    let sums = &findings.sums;
    json!({
        "reference_time": findings.reference,
        "files": files(findings),
        "directories": directories(findings),
        "symlinks": symlinks(findings),
        "hard_links": {
            "names": findings.totals().hard_linked,
            "inodes": findings.linked.count,
            "allocated_bytes": space(findings.linked.blocks),
        },
        "permissions": permissions(findings),
        "size_histogram": sizes(sums.sizes.all()),
        "allocated_histogram": sizes(sums.allocated.all()),
        "atime_histogram": ages(sums.atime.all()),
        "mtime_histogram": ages(sums.mtime.all()),
        "ctime_histogram": ages(sums.ctime.all()),
        "owners": holders(&findings.owners, "uid"),
        "owners_other": usage(&findings.owners.others),
        "groups": holders(&findings.groups, "gid"),
        "groups_other": usage(&findings.groups.others),
        "extensions": kinds("extension", findings.extensions.iter().map(|(e, u)| (e.as_str(), u))),
        "categories": kinds("category", findings.categories.iter().map(|(c, u)| (c.name(), u))),
        "largest_files": large_files(&findings.largest),
        "largest_files_by_owner": large_files_by(&findings.owners, "uid"),
        "largest_files_by_group": large_files_by(&findings.groups, "gid"),
        "depths": depths(sums.levels.rows()),
    })
}

fn files(findings: &Findings) -> Value {
    let totals = findings.totals();
    json!({
        "count": totals.files,
        "bytes": totals.bytes,
        "allocated_bytes": space(totals.file_blocks),
        "average_bytes": average(totals.bytes, totals.files),
        "average_allocated_bytes": average(space(totals.file_blocks), totals.files),
        "empty": totals.empty_files,
        "sparse": {
            "count": totals.sparse_files,
            "bytes": totals.sparse_bytes,
            "allocated_bytes": space(totals.sparse_blocks),
        },
    })
}

fn directories(findings: &Findings) -> Value {
    let totals = findings.totals();
    let extremes = &findings.sums.extremes;
    json!({
        "count": totals.directories,
        "with_subdirectories": totals.parent_directories,
        "average_depth": average(totals.directory_depths, totals.directories),
        "average_width": average(totals.directories_below_roots, totals.parent_directories),
        "deepest": record("depth", &extremes.deepest),
        "widest": record("subdirectories", &extremes.widest),
        "fullest": record("entries", &extremes.fullest),
        "most_files": record("files", &extremes.most_files),
    })
}

fn symlinks(findings: &Findings) -> Value {
    let totals = findings.totals();
    json!({
        "to_files": totals.symlinks_to_files,
        "to_directories": totals.symlinks_to_directories,
        "dangling": totals.symlinks_dangling,
        "elsewhere": totals.symlinks_elsewhere,
    })
}

fn permissions(findings: &Findings) -> Value {
    let totals = findings.totals();
    json!({
        "setuid_files": totals.setuid_files,
        "setgid_files": totals.setgid_files,
        "world_writable_files": totals.world_writable_files,
        "world_writable_directories": totals.world_writable_directories,
    })
}

fn sizes(cells: &[Cell]) -> Vec<Value> {
    (0..)
        .zip(cells)
        .map(|(bin, cell)| size(bin, cell))
        .collect()
}

fn size(bin: usize, cell: &Cell) -> Value {
    json!({
        "label": bins::size_label(bin),
        "up_to": SIZE_EDGES.get(bin),
        "count": cell.count,
        "bytes": cell.bytes,
    })
}

fn ages(cells: &[Cell]) -> Vec<Value> {
    let age = |(bin, cells): (usize, &[Cell])| {
        let sum = Cell::sum(cells);
        let used = (0..).zip(cells).filter(|(_, cell)| cell.count > 0);
        json!({
            "label": bins::age_label(bin),
            "up_to_seconds": bin.checked_sub(1).and_then(|edge| AGE_EDGES.get(edge)),
            "count": sum.count,
            "bytes": sum.bytes,
            "sizes": used.map(|(bin, cell)| size(bin, cell)).collect::<Vec<_>>(),
        })
    };
    (0..).zip(cells.chunks(SIZE_BINS)).map(age).collect()
}

fn holders(holders: &Holders, id_key: &str) -> Vec<Value> {
    let value = |(id, own): &(u32, Usage)| {
        let mut value = usage(own);
        value[id_key] = json!(id);
        value["name"] = json!(holders.names.get(id));
        value
    };
    holders.usage.iter().map(value).collect()
}

fn usage(usage: &Usage) -> Value {
    json!({
        "entries": usage.entries,
        "files": usage.files,
        "bytes": usage.bytes,
        "allocated_bytes": space(usage.blocks),
    })
}

fn kinds<'a>(key: &str, kinds: impl Iterator<Item = (&'a str, &'a FileUsage)>) -> Vec<Value> {
    let value = |(name, usage): (&str, &FileUsage)| {
        json!({
            key: name,
            "files": usage.files,
            "bytes": usage.bytes,
            "allocated_bytes": space(usage.blocks),
        })
    };
    kinds.map(value).collect()
}

fn large_files(files: &[LargeFile]) -> Vec<Value> {
    let value = |file: &LargeFile| {
        let mut value = path(&file.path);
        value.insert("bytes".into(), json!(file.size.0));
        let allocated = space(file.facts.blocks);
        value.insert("allocated_bytes".into(), json!(allocated));
        value.insert("uid".into(), json!(file.facts.uid));
        value.insert("gid".into(), json!(file.facts.gid));
        value.insert("mtime".into(), json!(file.facts.mtime));
        Value::Object(value)
    };
    files.iter().map(value).collect()
}

fn large_files_by(holders: &Holders, id_key: &str) -> Vec<Value> {
    let value = |(id, files): &(u32, Vec<LargeFile>)| {
        json!({
            id_key: id,
            "name": holders.names.get(id),
            "files": large_files(files),
        })
    };
    holders.largest.iter().map(value).collect()
}

fn depths(levels: &[Level]) -> Vec<Value> {
    let value = |(depth, level): (usize, &Level)| {
        let files_below = levels.get(depth + 1).map_or(0, |below| below.files);
        json!({
            "depth": depth,
            "and_deeper": depth == LEVELS_MAX,
            "directories": level.directories,
            "files": level.files,
            "other": level.other,
            "bytes": level.bytes,
            "allocated_bytes": space(level.file_blocks),
            "average_file_bytes": average(level.bytes, level.files),
            "average_files": average(files_below, level.directories),
            "most_files": level.most_files,
            "largest": record("entries", &level.largest),
        })
    };
    (0..).zip(levels).map(value).collect()
}

fn record<const LIMIT: usize>(number_key: &str, record: &Record<LIMIT>) -> Value {
    record.get().map_or(Value::Null, |(number, kept)| {
        let mut value = path(kept);
        value.insert(number_key.into(), json!(number));
        Value::Object(value)
    })
}

fn path(kept: &KeptPath) -> Map<String, Value> {
    let mut object = Map::new();
    insert_path(&mut object, &kept.bytes);
    if kept.cut {
        object.insert("path_cut".into(), json!(true));
    }
    object
}

fn space(blocks: u64) -> u64 {
    blocks.saturating_mul(512)
}

fn average(sum: u64, number: u64) -> f64 {
    match number {
        0 => 0.0,
        _ => sum as f64 / number as f64,
    }
}
