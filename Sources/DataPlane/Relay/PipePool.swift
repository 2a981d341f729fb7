internal import LinuxIO

/// The pipes of one worker, lent to directions that splice. A pipe is given back empty.
struct PipePool: ~Copyable {
  /// Capacity of each pipe in bytes.
  static let pipeBytes = 1024 * 1024
  /// Pipes that one worker has at most; a direction that gets none goes on copying.
  static let maximumPipes = 256
  /// Pipes that are kept for the next direction; more are closed when they come back.
  static let maximumIdlePipes = 16

  private let pipes: UnsafeMutablePointer<Pipe?>
  private var vacant: [Int16] = []
  private var idle: [Int16] = []
  private let budget: DescriptorBudget

  /// Pipes that directions have now.
  private(set) var lentCount = 0
  /// Those that are idle included.
  var count: Int { lentCount + idle.count }
  /// Whether any pipe exists, lent or idle.
  var isEmpty: Bool { lentCount == 0 && idle.isEmpty }

  init(budget: DescriptorBudget) {
    self.budget = budget
    pipes = .allocate(capacity: Self.maximumPipes)
    for index in 0..<Self.maximumPipes { (pipes + index).initialize(to: nil) }
    vacant = (0..<Int16(Self.maximumPipes)).reversed()
  }

  deinit {
    pipes.deinitialize(count: Self.maximumPipes)
    pipes.deallocate()
  }

  /// An empty pipe, nil if none can be had now.
  mutating func lend() -> Int16? {
    if let index = idle.popLast() {
      lentCount += 1
      return index
    }
    guard !vacant.isEmpty, budget.take(2) else { return nil }
    do {
      let pipe = try Pipe(bytes: Self.pipeBytes)
      let index = vacant.removeLast()
      pipes[Int(index)] = consume pipe
      lentCount += 1
      return index
    } catch {
      budget.giveBack(2)
      return nil
    }
  }

  /// Takes a pipe back; one that still holds bytes is closed with them.
  mutating func giveBack(_ index: Int16, isEmpty: Bool) {
    lentCount -= 1
    if isEmpty, idle.count < Self.maximumIdlePipes {
      idle.append(index)
      return
    }
    close(index)
  }

  /// Closes the pipes that nobody has, so that an idle process holds no descriptor for them.
  mutating func closeIdle() {
    while let index = idle.popLast() { close(index) }
  }

  private mutating func close(_ index: Int16) {
    pipes[Int(index)] = nil
    vacant.append(index)
    budget.giveBack(2)
  }

  /// Descriptors of a pipe that is lent.
  func ends(_ index: Int16) -> (read: Int32, write: Int32) {
    guard let read = pipes[Int(index)]?.readEnd.rawValue,
      let write = pipes[Int(index)]?.writeEnd.rawValue
    else { preconditionFailure("pipe \(index) is not lent") }
    return (read, write)
  }
}
