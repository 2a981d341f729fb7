internal import LinuxIO

/// Services of the host that a program can reach without its network, by sockets in the file system:
/// those that would look up names for it, directly. Hidden in a mount namespace.
struct HostServices {
  private static let resolverPath = "/etc/resolv.conf"
  /// Where a file is put together before it appears elsewhere.
  private static let staging = "/tmp"

  /// What files are covered with: nobody listens there.
  private static let nothing = "/dev/null"

  private let directories: [String]
  private let files: [String]
  private let resolverFile: String?

  /// - Parameter resolverFile: what `/etc/resolv.conf` shall say; nil: what it says now.
  init(_ directories: [String], files: [String], resolverFile: String?) {
    self.directories = directories
    self.files = files
    self.resolverFile = resolverFile
  }

  func hide() throws(Errno) {
    let resolverPath = Mounts.realPath(Self.resolverPath)
    var text = resolverFile
    // The same directory may have several names.
    let covered = Set(directories.compactMap(Mounts.realPath))
    for directory in covered.sorted() {
      let holdsResolverFile = resolverPath?.hasPrefix(directory + "/") == true
      if holdsResolverFile, text == nil { text = readFile(Self.resolverPath) }
      try Mounts.cover(directory)
      if holdsResolverFile, let path = resolverPath {
        try write(text ?? "", to: createFile(path))
        text = nil
      }
    }
    // Those in a covered directory are gone.
    for file in Set(files.compactMap(Mounts.realPath)) {
      try Mounts.bind(Self.nothing, over: file)
    }
    guard let text, let resolverPath else { return }
    try Mounts.cover(Self.staging)
    let staged = Self.staging + "/resolv.conf"
    try write(text, to: createFile(staged))
    try Mounts.bind(staged, over: resolverPath)
    try Mounts.uncover(Self.staging)
  }
}
