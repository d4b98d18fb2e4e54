"""A line chart as SVG, with nothing but text."""

import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP_SPACE, BOTTOM = 720, 420, 70, 20, 50, 55
COLOURS = ["#1b6ca8", "#c0392b", "#27864a", "#8e44ad"]


def steps(low, high, is_log):
    """Where the axis has its lines."""
    if is_log:
        return [m * 10 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5) if low <= m * 10 ** e <= high]
    size = 10 ** math.floor(math.log10(high / 4))
    size = next(size * m for m in (1, 2, 5, 10) if high / (size * m) <= 6)
    return [size * n for n in range(math.ceil(low / size), math.floor(high / size) + 1)]


def scale(low, high, first, last, is_log):
    if is_log:
        low, high = math.log10(low), math.log10(high)
        return lambda value: first + (math.log10(value) - low) / (high - low) * (last - first)
    return lambda value: first + (value - low) / (high - low) * (last - first)


def words(value):
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def chart(title, x_title, y_title, lines, log_x=False, log_y=False):
    """lines: {name: [(x, y), ...]}."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x_low, x_high = (min(xs), max(xs)) if log_x else (0, max(xs) * 1.03)
    y_low, y_high = (min(ys) / 1.3, max(ys) * 1.3) if log_y else (0, max(ys) * 1.08)
    x_of = scale(x_low, x_high, LEFT, WIDTH - RIGHT, log_x)
    y_of = scale(y_low, y_high, HEIGHT - BOTTOM, TOP_SPACE, log_y)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', f'<text x="{LEFT}" y="22" font-size="15">{html.escape(title)}</text>']
    for x in steps(x_low, x_high, log_x) if not log_x else sorted(set(xs)):
        out.append(f'<path d="M{x_of(x):.1f} {TOP_SPACE}V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
                   f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{words(x)}</text>')
    for y in steps(y_low, y_high, log_y):
        out.append(f'<path d="M{LEFT} {y_of(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{words(y)}</text>')
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{html.escape(x_title)}</text>')
    out.append(f'<text transform="translate(16 {(TOP_SPACE + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{html.escape(y_title)}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<text x="{LEFT + 10 + 210 * number}" y="42" fill="{colour}">{html.escape(name)}</text>')
    return "\n".join(out) + "\n</svg>\n"
