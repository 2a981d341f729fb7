internal import CLinux

// Files, among them those that the kernel shows (`proc(5)`, `sysfs(5)`), without Foundation.

/// The contents of a file as text, nil if it cannot be read; meant for `/proc` and short files.
package func readFile(_ path: String) -> String? {
  (try? readBytes(of: path)).map { String(decoding: $0, as: UTF8.self) }
}

/// The contents of a file.
/// - Parameter limit: of a longer one, or one without end, so many bytes or a few more are read.
package func readBytes(of path: String, limit: Int = .max) throws(Errno) -> [UInt8] {
  let file = Descriptor(owning: try checked(clx_open(path, O_RDONLY, 0)))
  var contents: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 65536)
  while contents.count < limit {
    let count = try checked(clx_read(file.rawValue, &chunk, chunk.count))
    if count == 0 { break }
    contents += chunk[..<count]
  }
  return contents
}

extension Descriptor {
  /// A file that is in memory alone and has no name in any directory (`memfd_create(2)`).
  /// - Parameter name: for who lists open files; at most 249 bytes.
  package static func memoryFile(_ text: String, named name: String) throws(Errno) -> Descriptor {
    let file = Descriptor(owning: try checked(clx_memory_file(name)))
    try write(text, to: file)
    return file
  }

  /// All of a file from its beginning, wherever it was read or written last; nil if it is no file, cannot be
  /// read, or is longer.
  package func text(atMost limit: Int) -> String? {
    let mode = clx_mode(rawValue)
    guard mode >= 0, UInt32(mode) & UInt32(S_IFMT) == UInt32(S_IFREG) else { return nil }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while bytes.count <= limit {
      let count = clx_pread(rawValue, &chunk, chunk.count, bytes.count)
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      guard count > 0 else { return nil }
      bytes += chunk[..<count]
    }
    return nil
  }
}

/// The first line of a file, and who may read that.
package struct FirstLine: Sendable {
  /// More are not read.
  package static let maximumBytes = 4096
  private static let readableByOthers: UInt32 = 0o004  // S_IROTH (inode(7)), which is no constant

  /// Without its end (LF or CR LF).
  package let bytes: [UInt8]
  /// It is a file that every user may read.
  package let isPublic: Bool

  package init(of path: String) throws(Errno) {
    let file = Descriptor(owning: try checked(clx_open(path, O_RDONLY, 0)))
    let mode = UInt32(try checked(clx_mode(file.rawValue)))
    isPublic = mode & UInt32(S_IFMT) == UInt32(S_IFREG) && mode & Self.readableByOthers != 0
    var contents = [UInt8](repeating: 0, count: Self.maximumBytes)
    var count = 0
    // A pipe gives it in pieces.
    while count < contents.count, !contents[..<count].contains(UInt8(ascii: "\n")) {
      let result = contents.withUnsafeMutableBytes { bytes in
        clx_read(file.rawValue, bytes.baseAddress.map { $0 + count }, bytes.count - count)
      }
      if result == -Int(EINTR) { continue }
      let part = try checked(Int(result))
      if part == 0 { break }
      count += part
    }
    var line = contents[..<count].prefix { $0 != UInt8(ascii: "\n") }
    if line.last == UInt8(ascii: "\r") { line.removeLast() }
    bytes = Array(line)
  }
}

/// A file to be written, in place of what it had.
package func createFile(_ path: String) throws(Errno) -> Descriptor {
  Descriptor(owning: try checked(clx_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)))
}

/// Writes all of a text.
package func write(_ text: String, to file: borrowing Descriptor) throws(Errno) {
  try writeAll(Array(text.utf8), to: file.rawValue)
}

/// Writes for people, or for who reads this process's errors; what cannot be written is lost.
package func writeStandardError(_ text: String) {
  try? writeAll(Array(text.utf8), to: STDERR_FILENO)
}

private func writeAll(_ bytes: [UInt8], to descriptor: Int32) throws(Errno) {
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { clx_write(descriptor, $0.baseAddress, $0.count) }
    if count == -Int(EINTR) { continue }
    rest = rest.dropFirst(try checked(Int(count)))
  }
}

/// The names in a directory except `.` and `..`, in no order; empty if it cannot be read.
package func directoryEntries(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    // SAFETY: `d_name` is a terminated string inside the entry, valid until the next readdir.
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != ".", name != ".." { names.append(name) }
  }
  return names
}

/// Where a symbolic link leads, nil if it is none or may not be read.
package func readLink(_ path: String) -> String? {
  let target = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
    let result = buffer.withMemoryRebound(to: CChar.self) {
      clx_readlink(path, $0.baseAddress, $0.count)
    }
    count = max(result, 0)
  }
  return target.isEmpty ? nil : String(decoding: target, as: UTF8.self)
}
