package import Configuration

/// The settings of a file: a YAML mapping whose keys are the names of `run`'s options. Each is checked by
/// itself, and all together when the flags are known, which win.
package struct ConfigurationFile: Sendable {
  /// What a file has at most.
  package static let maximumBytes = YAMLReader.maximumBytes

  /// What it fills in.
  package private(set) var options = Options()
  /// Of each setting that it has, by name.
  private var places: [String: Place] = [:]

  /// Finds all that is wrong, not only the first of it.
  package init(_ bytes: [UInt8]) throws(Problems) {
    let root: Node?
    do {
      root = try YAMLReader.read(bytes)
    } catch {
      throw Problems([error])
    }
    guard let root, !root.isEmpty else { return }
    guard case .mapping(let pairs) = root.content else {
      throw Problems([
        Problem("expected settings, such as machine: true, not \(root.kind)", at: root.place)
      ])
    }
    var problems: [Problem] = []
    for pair in pairs {
      do {
        try read(pair, &problems)
      } catch {
        problems.append(error)
      }
    }
    guard problems.isEmpty else { throw Problems(problems) }
    // A password in it is not seen by others.
    options.isUpstreamHidden = !options.givenUpstreams.isEmpty
  }

  /// These, and where nothing is said in them, the file's. A list is taken as a whole.
  package func options(under flags: Options) -> Options {
    var merged = flags
    for setting in Setting.all where places[setting.name] != nil {
      switch setting.value {
      case .flag(let path):
        if !flags[keyPath: path] { merged[keyPath: path] = options[keyPath: path] }
      case .number(let path): merged[keyPath: path] = flags[keyPath: path] ?? options[keyPath: path]
      case .text(let path, _):
        merged[keyPath: path] = flags[keyPath: path] ?? options[keyPath: path]
      case .texts(let path), .rules(let path):
        if flags[keyPath: path].isEmpty { merged[keyPath: path] = options[keyPath: path] }
      }
    }
    if flags.givenUpstreams.isEmpty { merged.isUpstreamHidden = options.isUpstreamHidden }
    return merged
  }

  /// An error of the whole configuration at the first setting that it names and the file has; nil if it
  /// names none of them.
  package func problem(_ error: ConfigurationError) -> Problem? {
    let text = error.description
    let names = text.split(separator: "--").dropFirst(text.hasPrefix("--") ? 0 : 1)
      .map { $0.prefix { $0.isLetter || $0.isNumber || $0 == "-" } }
    let place = names.lazy.compactMap { places[String($0)] }.first
    return place.map { Problem(text, at: $0) }
  }

  // MARK: Reading

  private mutating func read(_ pair: Node.Pair, _ problems: inout [Problem]) throws(Problem) {
    guard case .text(let name, _) = pair.key.content else {
      throw Problem("expected the name of a setting, not \(pair.key.kind)", at: pair.key.place)
    }
    guard let setting = Setting.named(name) else {
      let nearest = nearestWord(to: name, among: Setting.all.map(\.name))
      throw Problem(
        "\(name) is no setting" + (nearest.map { ": did you mean \($0)?" } ?? ""),
        at: pair.key.place)
    }
    guard places[name] == nil else {
      throw Problem("\(name) is there twice: leave one of the two out", at: pair.key.place)
    }
    places[name] = pair.value.place
    switch setting.value {
    case .flag(let path):
      options[keyPath: path] = try flag(pair.value, setting)
      problems += fault(of: setting, at: pair.value) { $0[keyPath: path] = options[keyPath: path] }
    case .number(let path):
      let number = try number(pair.value, setting)
      options[keyPath: path] = number
      problems += fault(of: setting, at: pair.value) { $0[keyPath: path] = number }
    case .text(let path, _):
      let text = try text(pair.value, setting)
      options[keyPath: path] = text
      problems += fault(of: setting, at: pair.value) { $0[keyPath: path] = text }
    case .texts(let path):
      let nodes = if case .list(let nodes) = pair.value.content { nodes } else { [pair.value] }
      for node in nodes {
        let text = try text(node, setting)
        options[keyPath: path].append(text)
        problems += fault(of: setting, at: node) { $0[keyPath: path] = [text] }
      }
    case .rules(let path):
      let nodes = if case .list(let nodes) = pair.value.content { nodes } else { [pair.value] }
      for (index, node) in nodes.enumerated() {
        do throws(Problems) {
          options[keyPath: path].append(try rule(node, number: index + 1, setting))
        } catch {
          problems += error.all
        }
      }
    }
  }

  private func flag(_ node: Node, _ setting: Setting) throws(Problem) -> Bool {
    switch node.content {
    case .text("true", isPlain: true): return true
    case .text("false", isPlain: true): return false
    default: throw misfit(node, setting)
    }
  }

  private func number(_ node: Node, _ setting: Setting) throws(Problem) -> Int {
    guard case .text(let text, isPlain: true) = node.content, let number = Int(text) else {
      throw misfit(node, setting)
    }
    return number
  }

  /// Whatever is no list or mapping: `off` and `1000` are texts here.
  func text(_ node: Node, _ setting: Setting) throws(Problem) -> String {
    guard case .text(let text, _) = node.content, !node.isEmpty else { throw misfit(node, setting) }
    return text
  }

  private func misfit(_ node: Node, _ setting: Setting) -> Problem {
    let found = if case .text(let text, _) = node.content, !node.isEmpty { text } else { node.kind }
    return Problem("\(setting.name): expected \(setting.expectation), not \(found)", at: node.place)
  }

  /// What is wrong with this value whatever the others are.
  private func fault(
    of setting: Setting, at node: Node, fill: (inout Options) -> Void
  ) -> [Problem] {
    var options = Options()
    options.machine = true
    options.gateways = ["lo"]
    options.givenUpstreams = ["socks5://192.0.2.1", "socks5://192.0.2.2"]
    fill(&options)
    do {
      _ = try Configuration(options)
      return []
    } catch {
      return [Self.problem(error, of: setting, at: node)]
    }
  }

  /// An error of one setting's value.
  static func problem(
    _ error: ConfigurationError, of setting: Setting, at node: Node
  ) -> Problem {
    let text = error.description
    return Problem(
      text.hasPrefix("--") ? String(text.dropFirst(2)) : "\(setting.name): \(text)",
      at: node.place)
  }
}
