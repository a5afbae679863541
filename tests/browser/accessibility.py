"""Checks for users with low vision, and for users of the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

# Texts with a contrast below that of WCAG 2.2 AA: 4.5, or 3 for large texts. Disabled controls
# are not checked.
DIM = """panel => {
    const EXEMPT = "style, option, :disabled, .cd-unseen, [aria-hidden=true]";
    const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const rgba = color => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], below) =>
        [r, g, b].map((value, place) => value * a + below[place] * (1 - a));
    const behind = element => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) {
            layers.push(rgba(getComputedStyle(at).backgroundColor));
        }
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    const light = color => {
        const [r, g, b] = color.map(value => value / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = new Set();
    const walker = document.createTreeWalker(panel, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        const element = walker.currentNode.parentElement;
        const seen = element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true});
        if (!text || !seen || element.closest(EXEMPT)) continue;
        const style = getComputedStyle(element), below = behind(element);
        const a = light(over(rgba(style.color), below)), b = light(below);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.5 && style.fontWeight >= 700);
        if (contrast < (large ? 3 : 4.5)) {
            found.add(`${contrast.toFixed(1)} ${element.className}: ${text.slice(0, 40)}`);
        }
    }
    return [...found];
}"""

# Controls that look the same with and without the keyboard's focus.
UNMARKED = """panel => {
    const look = element => {
        const {outlineStyle, outlineWidth, boxShadow, borderColor} = getComputedStyle(element);
        const outline = outlineStyle === "none" ? "none" : outlineWidth;
        return [outline, boxShadow, borderColor].join();
    };
    const before = document.activeElement;
    const all = "a[href], button, input, select, textarea, summary, [tabindex]";
    const found = [...panel.querySelectorAll(all)].filter(element => {
        if (element.disabled || element.tabIndex < 0 || !element.checkVisibility()) return false;
        document.activeElement.blur();
        const plain = look(element);
        element.focus();
        return document.activeElement !== element || look(element) === plain;
    });
    before?.focus();
    return found.map(element => element.outerHTML.slice(0, 160));
}"""


def assert_accessible(panel: Locator) -> None:
    """Check that all texts of a panel have enough contrast, and that the focus is visible."""
    dim = panel.evaluate(DIM)
    assert dim == [], dim
    panel.page.keyboard.press("Tab")  # after a key press the browser marks the focus
    unmarked = panel.evaluate(UNMARKED)
    assert unmarked == [], unmarked
