/// A message that is taken apart from its front, each part removed as it is read: slow, and obviously
/// right. Every part is nil once one before it could not be read.
struct SlowReader {
  private(set) var questions: [[UInt8]]?
  /// The first OPT record of the additional section.
  private(set) var options: [UInt8]?

  init(_ message: [UInt8]) {
    guard message.count >= 12 else { return }
    let counts = [4, 6, 8, 10].map { Int(message[$0]) << 8 | Int(message[$0 + 1]) }
    var rest = Array(message[12...])
    var found: [[UInt8]] = []
    for _ in 0..<counts[0] {
      guard let name = Self.takeName(&rest, isWhole: true), let fixed = Self.take(4, &rest) else {
        return
      }
      found.append(name + fixed)
    }
    questions = found
    for section in 1...3 {
      for _ in 0..<counts[section] {
        guard let name = Self.takeName(&rest, isWhole: false), let fixed = Self.take(10, &rest),
          let data = Self.take(Int(fixed[8]) << 8 | Int(fixed[9]), &rest)
        else { return }
        if section == 3, name == [0], fixed[0] == 0, fixed[1] == 41 {
          options = name + fixed + data
          return
        }
      }
    }
  }

  private static func take(_ count: Int, _ rest: inout [UInt8]) -> [UInt8]? {
    guard rest.count >= count else { return nil }
    defer { rest.removeFirst(count) }
    return Array(rest.prefix(count))
  }

  private static func takeName(_ rest: inout [UInt8], isWhole: Bool) -> [UInt8]? {
    var name: [UInt8] = []
    while let length = take(1, &rest)?[0] {
      name.append(length)
      if length == 0 { return name.count <= 255 ? name : nil }
      if length >= 0xC0 {
        guard name.count <= 255, !isWhole, let low = take(1, &rest) else { return nil }
        return name + low
      }
      guard length < 0x40, let label = take(Int(length), &rest) else { return nil }
      name += label
    }
    return nil
  }
}
