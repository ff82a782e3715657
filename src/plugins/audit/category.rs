//! What kind of data an extension stands for. A table, nothing else.

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Category {
    /// Text and office documents.
    Document,
    /// Pictures.
    Image,
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Compressed files and archives.
    Archive,
    /// Images of disks and virtual machines.
    DiskImage,
    /// Source code of compiled languages, and of the web.
    Source,
    /// Programs in scripting languages, notebooks among them.
    Script,
    /// Settings and build descriptions.
    Config,
    /// Tables and structured text.
    Data,
    /// Arrays, meshes and results of simulations and instruments.
    Scientific,
    /// Sequences, alignments and variants.
    Genomics,
    /// Files of database systems.
    Database,
    /// Machine-learning models and checkpoints.
    Model,
    /// What programs write about their work.
    Log,
    /// Executables, libraries and object files.
    Binary,
    /// Backups and leftovers.
    Temporary,
    /// Extensions that the table does not have.
    Other,
    /// Files without an extension.
    None,
}

impl Category {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Archive => "archive",
            Self::DiskImage => "disk_image",
            Self::Source => "source",
            Self::Script => "script",
            Self::Config => "config",
            Self::Data => "data",
            Self::Scientific => "scientific",
            Self::Genomics => "genomics",
            Self::Database => "database",
            Self::Model => "model",
            Self::Log => "log",
            Self::Binary => "binary",
            Self::Temporary => "temporary",
            Self::Other => "other",
            Self::None => "none",
        }
    }

    /// The category of an extension in lower case.
    pub(super) fn of(extension: &str) -> Self {
        let has = |entry: &&(Self, &[&str])| entry.1.binary_search(&extension).is_ok();
        EXTENSIONS
            .iter()
            .find(has)
            .map_or(Self::Other, |entry| entry.0)
    }
}

/// Each list sorted; no extension in two of them.
#[rustfmt::skip]
const EXTENSIONS: [(Category, &[&str]); 17] = [
    (
        Category::Document,
        &[
            "123", "12m", "1st", "adoc", "ans", "asc", "azw3", "bib", "chm", "djvu", "doc", "docm",
            "docx", "dot", "dotx", "eml", "eps", "epub", "fods", "fodt", "info", "key", "man",
            "markdown", "mbox", "md", "mobi", "msg", "numbers", "odg", "odm", "odp", "ods", "odt",
            "one", "org", "otp", "ots", "ott", "pages", "pdf", "pot", "potm", "potx", "pps", "ppsx",
            "ppt", "pptm", "pptx", "ps", "rst", "rtf", "tex", "texi", "texinfo", "text", "txt",
            "vsd", "vsdx", "wks", "wku", "wpd", "xla", "xlam", "xlm", "xls", "xlsb", "xlsm", "xlsx",
            "xlt", "xltm", "xltx", "xps",
        ],
    ),
    (
        Category::Image,
        &[
            "ai", "arw", "avif", "bmp", "bpg", "cdr", "cr2", "cr3", "cur", "dds", "dng", "emf",
            "exr", "flif", "g3", "gif", "hdr", "heic", "heif", "ico", "icon", "j2k", "jfif", "jp2",
            "jpe", "jpeg", "jpg", "jxl", "kra", "nef", "orf", "pam", "pbm", "pcc", "pcx", "pgm",
            "pic", "png", "pnm", "pns", "ppm", "psd", "raf", "ras", "raw", "rw2", "sgi", "svg",
            "svgz", "tga", "tif", "tiff", "webp", "wmf", "xbm", "xcf", "xpm", "xwd",
        ],
    ),
    (
        Category::Video,
        &[
            "264", "3g2", "3gp", "3gp2", "3gpp", "3gpp2", "60d", "ajp", "am4", "amv", "arv", "asd",
            "asf", "avb", "avd", "avi", "braw", "drc", "f4b", "f4p", "f4v", "flv", "h264", "h265",
            "hevc", "m2ts", "m2v", "m4p", "m4v", "mbf", "mkv", "mov", "mp2", "mp4", "mpe", "mpeg",
            "mpg", "mpv", "mts", "mxf", "nsv", "ogv", "ogx", "qt", "r3d", "rm", "rmvb", "sdv",
            "srt", "svi", "tivo", "tod", "vmb", "vob", "webm", "wmv", "xvid", "y4m", "yuv",
        ],
    ),
    (
        Category::Audio,
        &[
            "3ga", "aa", "aac", "aax", "aif", "aiff", "amr", "ape", "au", "caf", "cda", "cdda",
            "dsf", "flac", "m4a", "m4b", "mid", "midi", "mka", "mp3", "mpa", "oga", "ogg", "opus",
            "ra", "ram", "snd", "wav", "wave", "wma", "wv",
        ],
    ),
    (
        Category::Archive,
        &[
            "7z", "ace", "afa", "alz", "apk", "ar", "arc", "arj", "ark", "b1", "b6z", "br", "bz",
            "bz2", "bzip2", "cab", "cb7", "cba", "cbr", "cbt", "cbz", "cdx", "cfs", "conda", "cpio",
            "cpt", "crate", "crx", "dar", "dd", "deb", "ear", "egg", "flatpak", "gem", "gz", "gzip",
            "ipa", "jar", "jmod", "lbr", "lha", "llzh", "lrz", "lz", "lz4", "lzh", "lzma", "lzo",
            "nupkg", "partimg", "pea", "rar", "rpm", "rz", "s7z", "sfx", "shar", "sit", "sitx",
            "snap", "sz", "tar", "taz", "tbz", "tbz2", "tgz", "tlz", "tpz", "txz", "tzst", "udeb",
            "war", "whl", "xar", "xpi", "xz", "z", "zip", "zoo", "zpaq", "zst", "zstd", "zz",
        ],
    ),
    (
        Category::DiskImage,
        &[
            "dmg", "ext4", "img", "iso", "mds", "nrg", "ova", "ovf", "qcow", "qcow2", "sif", "simg",
            "sqsh", "squashfs", "toast", "vdi", "vhd", "vhdx", "vmdk", "vmem", "vmsn", "vmss",
            "wim",
        ],
    ),
    (
        Category::Source,
        &[
            "a68", "abap", "adb", "ads", "asm", "c", "c++", "cbl", "cc", "cjs", "cl", "clj", "cljc",
            "cljs", "cob", "cpp", "cr", "cs", "css", "cu", "cuh", "cxx", "d", "dart", "diff", "dpr",
            "el", "elm", "erl", "ex", "exs", "f", "f03", "f08", "f77", "f90", "f95", "for", "frag",
            "fs", "fsi", "fsx", "ftn", "g4", "gd", "glsl", "go", "gradle", "groovy", "h", "h++",
            "hh", "hip", "hlsl", "hpp", "hrl", "hs", "htm", "html", "hxx", "idl", "inl", "ipp",
            "java", "jl", "js", "jsx", "kt", "kts", "l", "less", "lex", "lhs", "lisp", "ll", "lsp",
            "m", "metal", "mjs", "ml", "mli", "mm", "nim", "pas", "patch", "po", "pp", "proto",
            "pxd", "pxi", "pyx", "qml", "r", "rkt", "rmd", "rs", "s", "sage", "sass", "scala",
            "sci", "scm", "scss", "sol", "st", "sv", "svelte", "svh", "swift", "thrift", "tpp",
            "ts", "tsx", "ui", "v", "vala", "vert", "vh", "vhdl", "vue", "wgsl", "xhtml", "y", "yy",
            "zig",
        ],
    ),
    (
        Category::Script,
        &[
            "ado", "awk", "bash", "bat", "cdxml", "cmd", "csh", "do", "fish", "ipynb", "job", "ksh",
            "lasso", "lsf", "lua", "nu", "pbs", "phar", "php", "php-s", "php3", "php4", "php5",
            "php7", "phps", "phtml", "pl", "plx", "pm", "pod", "ps1", "ps1xml", "psc1", "psd1",
            "psm1", "pssc", "py", "pyc", "pyi", "pyo", "pyw", "pyz", "raku", "rb", "sas", "sbatch",
            "sed", "sh", "slurm", "sps", "t", "tbc", "tcl", "tm", "vbs", "vim", "xs", "zsh",
        ],
    ),
    (
        Category::Config,
        &[
            "ac", "am", "bazel", "bzl", "cer", "cfg", "cmake", "cnf", "conf", "config", "crt",
            "csproj", "csr", "desktop", "dts", "dtsi", "editorconfig", "env", "gitattributes",
            "gitignore", "gitmodules", "gpg", "gyp", "hcl", "iml", "in", "ini", "json5", "jsonc",
            "kdl", "list", "lock", "make", "mk", "mount", "ninja", "nix", "p12", "pc", "pem", "pfx",
            "plist", "policy", "pom", "properties", "pub", "rc", "reg", "rules", "service", "sln",
            "socket", "spec", "target", "tf", "tfvars", "theme", "timer", "toml", "vcxproj", "yaml",
            "yml",
        ],
    ),
    (
        Category::Data,
        &[
            "arrow", "avro", "bin", "blob", "bson", "cbor", "cpg", "csv", "dat", "data", "dbf",
            "dta", "dtd", "e57", "feather", "geojson", "gmo", "gpkg", "gpx", "har", "ics", "idx",
            "index", "json", "jsonl", "kml", "kmz", "las", "laz", "mo", "msgpack", "n3", "ndjson",
            "npy", "npz", "nq", "nt", "orc", "osm", "owl", "parquet", "pb", "pbf", "pbtxt", "pcap",
            "pcapng", "pickle", "pkl", "por", "prj", "psv", "rda", "rdata", "rdf", "rds",
            "sas7bdat", "sav", "shp", "shx", "sub", "tab", "tbl", "textproto", "topojson", "tsv",
            "ttl", "vcard", "vtt", "warc", "xml", "xpt", "xsd", "xsl", "xslt",
        ],
    ),
    (
        Category::Scientific,
        &[
            "asdf", "bdf", "blend", "bp", "cas", "case", "ccp4", "cdf", "cdl", "cgns", "chk", "cif",
            "con", "cube", "czi", "dcd", "dcm", "dicom", "dm3", "dm4", "dwg", "dx", "dxf", "e",
            "edf", "edr", "eeg", "emd", "ensi", "exo", "fchk", "fif", "fit", "fits", "fts", "gdf",
            "grb", "grb2", "grib", "grib2", "gro", "h4", "h5", "hdf", "hdf5", "he5", "hspy", "iges",
            "igs", "inp", "inpcrd", "lif", "lsm", "lvm", "map", "mat", "mesh", "mgf", "mgh", "mgz",
            "mha", "mhd", "mmcif", "mnc", "mol", "mol2", "mrc", "mrcs", "ms", "mseed", "msh", "mtz",
            "mzml", "mzxml", "nas", "nc", "nc4", "nd2", "ndpi", "netcdf", "neu", "nii", "nrrd",
            "obj", "oib", "oif", "op2", "outcar", "pdb", "ply", "poscar", "prmtop", "psf", "pvd",
            "pvtp", "pvtu", "root", "sac", "sdf", "seg", "segy", "set", "sgy", "silo", "sldprt",
            "spe", "star", "step", "stl", "stp", "su", "svs", "tdms", "tpr", "trr", "unv", "uvfits",
            "vhdr", "vmrk", "vsi", "vti", "vtk", "vtp", "vtr", "vts", "vtu", "wfn", "wiff", "xdmf",
            "xmf", "xtc", "xvg", "xyz", "zarr",
        ],
    ),
    (
        Category::Genomics,
        &[
            "2bit", "ab1", "agp", "aln", "bai", "bam", "bb", "bcf", "bcl", "bed", "bedgraph",
            "bgen", "bigbed", "bigwig", "bim", "blast", "bw", "cbcl", "cel", "chain", "cool",
            "crai", "cram", "csi", "embl", "fa", "faa", "fai", "fam", "fas", "fast5", "fasta",
            "fastq", "ffn", "filter", "fna", "fq", "frn", "gb", "gbff", "gbk", "gff", "gff2",
            "gff3", "gtf", "gvcf", "h5ad", "hic", "hmm", "idat", "liftover", "locs", "loom", "maf",
            "mcool", "mtx", "nex", "nib", "nwk", "ped", "pgen", "phy", "phylip", "pod5", "psam",
            "psl", "pssm", "pvar", "sam", "scf", "sff", "sra", "sto", "tbi", "vcf", "wig",
        ],
    ),
    (
        Category::Database,
        &[
            "accdb", "accdt", "ade", "adp", "aof", "db", "db2", "db3", "dbs", "dmp", "duckdb",
            "fdb", "frm", "gdb", "gdbm", "ibd", "ibdata", "kch", "kct", "ldb", "ldf", "leveldb",
            "lmdb", "mdb", "mdbx", "mdf", "myd", "myi", "ndf", "nsf", "ora", "rdb", "realm", "redo",
            "sdb", "sql", "sqlite", "sqlite3", "sqlitedb", "sst", "tdb", "wal", "wt",
        ],
    ),
    (
        Category::Model,
        &[
            "bst", "caffemodel", "cbm", "ckpt", "distcp", "engine", "ggml", "gguf", "hlo", "joblib",
            "keras", "mar", "mlmodel", "model", "onnx", "ot", "params", "pdmodel", "pdparams",
            "plan", "prototxt", "pt", "pth", "ptl", "safetensors", "tflite", "tfrecord",
            "tfrecords", "torchscript",
        ],
    ),
    (
        Category::Log,
        &[
            "core", "crash", "dump", "err", "etl", "evtx", "gcda", "gcno", "gcov", "journal",
            "lcov", "log", "messages", "nohup", "oe", "out", "perf", "pprof", "prof", "stderr",
            "stdout", "syslog", "trace",
        ],
    ),
    (
        Category::Binary,
        &[
            "a", "appimage", "axf", "bc", "beam", "class", "com", "cpl", "cubin", "dbg", "debug",
            "dll", "dwo", "dylib", "efi", "elf", "eot", "exe", "fatbin", "fon", "fw", "gch", "hex",
            "hi", "jnilib", "ko", "la", "ld", "lib", "lo", "mod", "msi", "node", "o", "ocx", "otf",
            "pcf", "pch", "pfa", "pfb", "ptx", "pyd", "rlib", "rmeta", "rom", "run", "scr", "so",
            "sof", "sys", "ttc", "ttf", "uf2", "wasm", "woff", "woff2", "xclbin",
        ],
    ),
    (
        Category::Temporary,
        &[
            "autosave", "backup", "bak", "cache", "crdownload", "download", "dpkg-dist", "dpkg-new",
            "dpkg-old", "fuse_hidden", "lck", "nfs", "old", "orig", "part", "pid", "rej", "rpmnew",
            "rpmsave", "save", "swn", "swo", "swp", "temp", "tmp", "trash", "ucf-dist",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lists_are_sorted_and_name_nothing_twice() {
        let mut seen = BTreeSet::new();
        for (category, list) in EXTENSIONS {
            assert!(list.is_sorted(), "{category:?}");
            for extension in list {
                assert!(seen.insert(extension), "{extension} is there twice");
                assert_eq!(Category::of(extension), category);
                assert!(
                    super::super::extension::Extension::of(format!("x.{extension}").as_bytes())
                        .text()
                        == *extension
                );
            }
        }
        assert_eq!(Category::of("no-such-one"), Category::Other);
    }
}
