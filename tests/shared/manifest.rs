//! What a reader of a directory for rows finds, who goes by the manifest.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// How many bytes count of each segment, by its name, as the manifest of `rows` says. At the end of a job it says whether
/// that was `complete`, and nothing else is left in the directory.
pub(crate) fn segments(
    rows: &Path,
    complete: Option<bool>,
) -> Result<BTreeMap<String, u64>, String> {
    let manifest = match fs::read_to_string(rows.join("manifest.ndjson")) {
        Err(error) if complete.is_none() && error.kind() == io::ErrorKind::NotFound => {
            String::new()
        }
        manifest => manifest.map_err(|error| format!("the manifest: {error}"))?,
    };
    let whole = manifest
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let lines: Result<Vec<Value>, _> = whole.map(serde_json::from_str).collect();
    let lines = lines.map_err(|error| error.to_string())?;
    let mut counts = BTreeMap::new();
    for line in &lines {
        if let (Some(name), Some(bytes)) = (line["segment"].as_str(), line["bytes"].as_u64()) {
            counts.insert(name.to_owned(), bytes);
        }
    }
    if let Some(complete) = complete {
        let last = lines.last().ok_or("an empty manifest")?;
        if last["complete"] != complete || last["segments"].as_u64() != Some(counts.len() as u64) {
            return Err(format!("the manifest ends with {last}"));
        }
        is_clean(rows, &counts)?;
    }
    Ok(counts)
}

/// The bytes of a segment that count.
pub(crate) fn segment(rows: &Path, name: &str, bytes: u64) -> Result<Vec<u8>, String> {
    let mut found = Vec::new();
    let file = File::open(rows.join(name));
    let read = file.and_then(|file| file.take(bytes).read_to_end(&mut found));
    match read {
        Ok(read) if read as u64 == bytes => Ok(found),
        Ok(read) => Err(format!("{name} has {read} bytes, not {bytes}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// All files are in the manifest, with their lengths.
fn is_clean(rows: &Path, counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(rows) {
        let entry = entry.map_err(|error| error.to_string())?;
        if entry.file_type().is_file() && entry.file_name() != "manifest.ndjson" {
            let name = entry.path().strip_prefix(rows);
            let name = name.map_err(|error| error.to_string())?;
            let bytes = entry.metadata().map_err(|error| error.to_string())?.len();
            files.insert(name.to_string_lossy().into_owned(), bytes);
        }
    }
    match files == *counts {
        true => Ok(()),
        false => Err(format!("files {files:?}, in the manifest {counts:?}")),
    }
}
