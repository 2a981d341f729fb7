internal import Glibc

/// The environment that this process was started with (`environ(7)`).
enum EnvironmentVariable {
  /// The bytes of a variable. Nil for what is empty, too: that is how a variable is taken back where it
  /// cannot be removed.
  static func bytes(of name: String) -> [UInt8]? {
    guard let value = getenv(name), value.pointee != 0 else { return nil }
    return UnsafeRawBufferPointer(start: value, count: strlen(value)).map { $0 }
  }

  /// The same, after which programs that this process starts do not inherit it.
  static func takeBytes(of name: String) -> [UInt8]? {
    defer { unsetenv(name) }
    return bytes(of: name)
  }

  /// The same as text.
  static func take(_ name: String) -> String? {
    takeBytes(of: name).map { String(decoding: $0, as: UTF8.self) }
  }
}
