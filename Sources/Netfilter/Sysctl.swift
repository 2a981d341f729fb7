internal import CLinux
internal import LinuxIO

/// A kernel setting under `/proc/sys`, of this process's network namespace.
package struct Sysctl: Hashable, Sendable {
  private let components: [String]

  /// An interface's name is one component, though it may have dots.
  package init(components: [String]) { self.components = components }

  /// - Parameter name: as `sysctl(8)` takes it, none of its components with a dot.
  package init(_ name: String) { components = name.split(separator: ".").map(String.init) }

  /// - Parameter path: below `/proc/sys`, where an interface's name is one component.
  init(path: String) {
    components = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
  }

  /// As `sysctl(8)` prints it: dots within a component become slashes.
  package var name: String {
    components.map { String($0.map { $0 == "." ? "/" : $0 }) }.joined(separator: ".")
  }

  /// Below `/proc/sys`.
  var path: String { components.joined(separator: "/") }

  private var file: String { "/proc/sys/" + path }

  /// Nil if there is no such setting.
  package var value: String? {
    readFile(file).map { String($0.prefix { $0 != "\n" }) }
  }

  /// Whether `set` may change it; finds out without writing.
  package var isWritable: Bool {
    let result = clx_open(file, O_WRONLY, 0)
    guard result >= 0 else { return false }
    _ = Descriptor(owning: result)
    return true
  }

  func set(_ value: String) throws(Errno) {
    let opened = Descriptor(owning: try checked(clx_open(file, O_WRONLY, 0)))
    let bytes = Array(value.utf8)
    _ = try checked(clx_write(opened.rawValue, bytes, bytes.count))
  }
}
