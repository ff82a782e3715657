use super::*;

fn tree(shape: Shape, directories: u64, files: u64) -> ImplicitTree {
    ImplicitTree::new(&TreeArgs {
        shape,
        directories: Some(directories),
        files: Some(files),
        seed: 7,
    })
    .unwrap()
}

/// Walks by names and inode numbers alone, as a file system's user does.
fn walk_by_names(tree: &ImplicitTree) -> Counts {
    let mut counts = Counts::default();
    let mut open = vec![(1_u64, 0_u64)];
    let mut inodes = std::collections::BTreeSet::new();
    while let Some((inode, depth)) = open.pop() {
        assert!(inodes.insert(inode), "inode {inode:x} was met twice");
        let Some(Entry::Dir(dir)) = tree.by_inode(inode) else {
            panic!("inode {inode:x} is no directory");
        };
        counts.directories += 1;
        counts.depth = counts.depth.max(depth);
        counts.widest = counts.widest.max(tree.entries(dir));
        let mut number = 0;
        for place in 0..tree.entries(dir) {
            let entry = tree.entry(dir, place);
            let mut name = Vec::new();
            match entry {
                Entry::Dir(_) => {
                    assert_eq!(tree.place_of(dir, number), place);
                    tree.write_name(&entry, number, &mut name);
                    number += 1;
                    open.push((entry.inode(), depth + 1));
                }
                Entry::File { index, .. } => {
                    tree.write_name(&entry, index, &mut name);
                    assert!(inodes.insert(entry.inode()));
                    assert_eq!(tree.by_inode(entry.inode()), Some(entry));
                    counts.files += 1;
                }
            }
            assert_eq!(tree.find(dir, &name), Some(entry), "{name:?}");
        }
    }
    counts
}

#[test]
fn what_is_counted_is_what_a_walk_by_names_meets() {
    for (shape, directories, files) in [
        (Shape::Balanced, 3_000, 50_001),
        (Shape::Balanced, 1, 0),
        (Shape::Balanced, 2, 17),
        (Shape::Skewed, 5_000, 12_000),
        (Shape::Flat, 1, 40_000),
        (Shape::Widedirs, 5_001, 0),
    ] {
        let tree = tree(shape, directories, files);
        let counts = tree.count();
        assert_eq!(counts, walk_by_names(&tree), "{shape:?}");
        assert_eq!(counts.directories, directories, "{shape:?}");
        if shape != Shape::Skewed {
            assert_eq!(counts.files, files, "{shape:?}");
        }
    }
}

#[test]
fn the_full_trees_have_the_shapes_that_their_names_promise() {
    let full = |shape| {
        let args = TreeArgs {
            shape,
            directories: None,
            files: None,
            seed: 1,
        };
        ImplicitTree::new(&args).unwrap().count()
    };
    let balanced = full(Shape::Balanced);
    assert_eq!((balanced.directories, balanced.files), (61_431, 1_042_865));
    assert_eq!((balanced.depth, balanced.widest), (6, 7 + 25));
    let skewed = full(Shape::Skewed);
    assert!((300_000..600_000).contains(&skewed.files), "{skewed:?}");
    assert!((100..=400).contains(&skewed.depth), "{skewed:?}");
    assert!(skewed.widest > 5_000, "{skewed:?}");
    assert_eq!(full(Shape::Flat).files, 1_000_000);
    assert_eq!(full(Shape::Widedirs).widest, 200_000);
}

#[test]
fn names_and_inodes_that_are_not_there_are_not_found() {
    let tree = tree(Shape::Balanced, 100, 1_000);
    let root = tree.root();
    for name in [
        "",
        "d",
        "d7",
        "d01",
        "d1x",
        "f",
        "f0",
        "f999999.txt",
        "x1",
        "d99999999999",
    ] {
        assert_eq!(tree.find(root, name.as_bytes()), None, "{name}");
    }
    for inode in [0, 2, DIRECTORY_BIT, DIRECTORY_BIT | 1 << 36 | 100] {
        assert_eq!(tree.by_inode(inode), None, "{inode:x}");
    }
}

#[test]
fn there_is_no_hostile_tree_and_none_without_a_root() {
    let args = |shape, directories| TreeArgs {
        shape,
        directories,
        files: None,
        seed: 1,
    };
    assert!(ImplicitTree::new(&args(Shape::Hostile, None)).is_err());
    assert!(ImplicitTree::new(&args(Shape::Balanced, Some(0))).is_err());
    assert!(ImplicitTree::new(&args(Shape::Flat, Some(2))).is_err());
}
