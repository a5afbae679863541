// 9cd73d0519c06020 Made from js/src/panels/index.tsx by `make js-build`; do not edit it here.

/*! It contains Preact, @preact/signals and uqr:

The MIT License (MIT)

Copyright (c) 2015-present Jason Miller

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
MIT License

Copyright (c) Project Nayuki
Copyright (c) 2023 Anthony Fu <https://github.com/antfu>

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
*/
var _,ht,qe,W,Ue,ke,gt,xe,vt,We,De,So,de=Symbol.for("pv"),Te={},Ee=[],Co=/^m(i|n|o|s|text|space)$/,Ve=Array.isArray,Ge=Ee.slice,K=Object.assign;function J(t){t&&t.parentNode&&t.remove()}function wt(t,e,o){var n,i,r,a={},s=arguments.length;for(r in e)r=="key"?n=e[r]:r=="ref"&&typeof t!="function"?i=e[r]:a[r]=e[r];return s>2&&(a.children=s>3?Ge.call(arguments,2):o),le(t,a,n,i,null)}function le(t,e,o,n,i){var r={type:t,props:e,key:o,ref:n,__k:null,__:null,__b:0,__e:null,__c:null,constructor:de,__v:i||++ht,__i:-1,__u:0};return!i&&_.vnode&&_.vnode(r),r}function M(t){return t.children}function te(t,e){this.props=t,this.context=e,this.__g=0}function V(t,e){if(e==null)return t.__&&V(t.__,t.__i+1);for(var o;e<t.__k.length;e++)if((o=t.__k[e])&&o.__e)return o.__e;return typeof t.type!="function"||t.props.__P?null:V(t)}function Mo(t){var e,o=t.__v,n=o.__e,i=[],r=[],a=t.__P;a&&((e=K({constructor:de},o)).__v=o.__v+1,_.vnode&&_.vnode(e),Je(a,e,o,t.__n,a.namespaceURI,32&o.__u?[n]:null,i,n||V(o),32&o.__u,r),e.__v=o.__v,e.__.__k[e.__i]=e,Et(i,e,r),o.__=o.__e=null,e.__e!=n&&_t(e))}function _t(t){if((t=t.__)&&t.__c&&!t.props.__P)return t.__e=null,t.__k.some(function(e){return e&&(t.__e=e.__e)}),_t(t)}function yt(t){(8&t.__g||(t.__g|=8,W.push(t),ke++))&&Ue==_.debounceRendering||((Ue=_.debounceRendering)||queueMicrotask)(xt)}function xt(){try{for(var t,e=1;W.length;)W.length>e&&W.sort(gt),t=W.shift(),e=W.length,8&t.__g&&Mo(t)}finally{(ke=W.length)&&(Ue||queueMicrotask)(xt)}}function bt(t,e,o,n,i,r,a,s,c,p,d){var f,y,l,m,h,v,w=n.__k||Ee,g=e.length;for(c=Po(o,e,w,c,g),f=0;f<g;f++)(l=o.__k[f])!=null&&(y=~l.__i&&w[l.__i]||Te,l.__i=f,v=Je(t,l,y,i,r,a,s,c,p,d),m=l.__e,(y.ref!=l.ref||8&y.__u)&&(y.ref&&Ke(y.ref,null,l,y),l.ref&&d.push(l.ref,l.__c||m,l)),h=h||m,4&l.__u?(c=kt(l,c,t,!y.__v),y.__e&&(y.__e=null)):typeof l.type=="function"&&v!==void 0?c=v:m&&(c=m.nextSibling),l.__u&=-21);return o.__e=h,c}function Po(t,e,o,n,i){var r,a,s,c,p,d,f,y,l,m=o.length,h=m,v=0,w=0,g=t.__k=Array(i);for(r=0;r<i;r++)(a=e[r])!=null&&typeof a!="boolean"&&typeof a!="function"?(typeof a!="object"||a.constructor===String?a=g[r]=le(null,a):Ve(a)?a=g[r]=le(M,{children:a}):a.constructor===de&&a.__b?a=g[r]=le(a.type,a.props,a.key,a.ref,a.__v):g[r]=a,c=r+v,a.__=t,a.__b=t.__b+1,s=null,~(p=a.__i=Ao(a,o,c,h))&&(h--,(s=o[p])&&(s.__u|=2)),s&&s.__v?(a.__u|=16,p==c-1?v--:p==c+1?v++:p!=c&&(p>c?v--:v++,w=1)):(~p||(i>m?v--:i<m&&v++),typeof a.type!="function"&&(a.__u|=4))):g[r]=null;if(w){for(d=[],f=[],r=0;r<i;r++)if((a=g[r])&&16&a.__u){for(v=0,y=d.length;v<y;)d[l=v+y>>1]<a.__i?v=l+1:y=l;d[v]=a.__i,f[r]=v+1}for(v=d.length;r--;)f[r]&&(f[r]==v?v--:g[r].__u|=4)}if(h)for(r=0;r<m;r++)!(s=o[r])||2&s.__u||(s.__e==n&&(n=V(s)),Xe(s,s));return n}function kt(t,e,o,n){var i,r,a,s;if(typeof t.type=="function"){if(t.props.__P)return e;if(i=t.__k)for(r=0;r<i.length;r++)i[r]&&(i[r].__=t,e=kt(i[r],e,o,!1));return e}for(e&&!e.parentNode&&(e=V(t))&&!e.parentNode&&(e=null),a=t.__e,s=e;s&&s.nodeType==8;)s=s.nextSibling;for(a!=s&&(!n&&o.moveBefore&&a.parentNode?o.moveBefore(a,e):o.insertBefore(a,e||null)),e=a;(e=e&&e.nextSibling)&&e.nodeType==8&&!e.data.startsWith("$s"););return e}function Ao(t,e,o,n){var i,r=t.key,a=t.type,s=e[o],c=s&&!(2&s.__u);if(s===null&&r==null||c&&r==s.key&&a==s.type)return o;if(n>(c?1:0)){for(i=o-1;i>=0;i--)if((s=e[i])&&!(2&s.__u)&&r==s.key&&a==s.type)return i;for(i=o+1;i<e.length;i++)if((s=e[i])&&!(2&s.__u)&&r==s.key&&a==s.type)return i}return-1}function mt(t,e,o){o==null&&(o=""),e[0]=="-"?t.setProperty(e,o):t[e]=o}function _e(t,e,o,n,i){var r,a;if(e=="style")if(typeof o=="string")t.style.cssText=o;else{if(typeof n=="string"&&(t.style.cssText=n=""),n)for(e in n)o&&e in o||mt(t.style,e);if(o)for(e in o)n&&o[e]==n[e]||mt(t.style,e,o[e])}else if(e[0]=="o"&&e[1]=="n")typeof o!="function"&&(o=null),typeof n!="function"&&(n=null),(t.__e||(t.__e={}))[e]=o,o&&n||(a=De[e]||(De[e]=Ro(e)),(t.__a||(t.__a={}))[e]=We,r=e!=(e=e.replace(vt,"$1")),(e=e.slice(2))[0]<"a"&&(e=e.toLowerCase()),o?t.addEventListener(e,a,r):t.removeEventListener(e,a,r));else{if(i=="http://www.w3.org/2000/svg")e=e.replace(/xlink(H|:h)/,"h").replace(/sName$/,"s");else if(e!="width"&&e!="height"&&e!="href"&&e!="list"&&e!="form"&&e!="tabIndex"&&e!="download"&&e!="rowSpan"&&e!="colSpan"&&e!="role"&&e!="popover"&&e in t)try{return void(t[e]=o??"")}catch{}if(typeof o=="function")return;o==null||o===!1&&e[4]!="-"?t.removeAttribute(e):t.setAttribute(e,e=="popover"&&o==1?"":o)}}function Ro(t){return function(e){var o=this.__e;if(o){if(o=o[t],e[xe]==null)e[xe]=We++;else if(e[xe]<this.__a[t])return;return o(_.event?_.event(e):e)}}}function Je(t,e,o,n,i,r,a,s,c,p){var d,f,y,l,m,h,v,w,g,b,x,B,q,C,A,ee,E,$,N=e.type;if(e.constructor!==de)return null;128&o.__u&&(c=32&o.__u,d=o.__c.__z)&&(e.__u|=c,f=r=[],d.nodeType==8?s=be(d,r):r.push(d),s=r[0]||s),(d=_.__b)&&d(e);e:if(typeof N=="function"){y=a.length;try{if(w=e.props,g=(d=N.prototype)&&d.render,b=(d=N.contextType)&&n[d.__c],x=d?b?b.props.value:d.__:n,(l=o.__c)?(e.__c=l,2&l.__g&&(l.__g|=1)):(g?e.__c=l=new N(w,x):(e.__c=l=new te(w,x),l.constructor=N,l.render=Lo),b&&b.sub(l),l.state||(l.state={}),l.__n=n,l.__g|=8,l.__h=[],l.__k=[]),g&&(l.__s||(l.__s=l.state),N.getDerivedStateFromProps&&(l.__s==l.state&&(l.__s=K({},l.__s)),K(l.__s,N.getDerivedStateFromProps(w,l.__s)))),m=l.props,h=l.state,l.__v=e,o.__c){if(w!==m&&g&&!N.getDerivedStateFromProps&&l.componentWillReceiveProps&&l.componentWillReceiveProps(w,x),e.__v==o.__v&&!(8&l.__g)||!(4&l.__g)&&l.shouldComponentUpdate&&l.shouldComponentUpdate(w,l.__s,x)===!1){e.__v!=o.__v&&(l.props=w,l.state=l.__s,l.__g&=-9),e.__e=o.__e,e.__k=o.__k,e.__k.some(function(j){j&&(j.__=e)}),Ee.push.apply(l.__h,l.__k),l.__k=[],l.__h.length&&a.push(l),s=V(o);break e}l.componentWillUpdate&&l.componentWillUpdate(w,l.__s,x),g&&l.componentDidUpdate&&l.__h.push(function(){l.componentDidUpdate(m,h,v)})}else g&&!N.getDerivedStateFromProps&&l.componentWillMount&&l.componentWillMount(),g&&l.componentDidMount&&l.__h.push(l.componentDidMount);l.context=x,l.props=w,l.__P=t,l.__g&=-5,B=_.__r,q=g?25:0;do l.__g&=-9,B&&B(e),d=l.render(l.props,l.state=l.__s,l.context);while(8&l.__g&&++q<25);g&&(Ee.push.apply(l.__h,l.__k),l.__k=[]),l.state=l.__s,l.getChildContext&&(n=K({},n,l.getChildContext())),g&&o.__c&&l.getSnapshotBeforeUpdate&&(v=l.getSnapshotBeforeUpdate(m,h)),C=d&&d.type===M&&d.key==null?d.props.children:d,w.__P&&(d=s,i=(t=w.__P).namespaceURI,c=r=null,o.props&&o.props.__P!=t&&(o.__k.some(function(j){j&&Xe(j,j)}),o.__k=null),s=o.__k?V(o,0):null),s=bt(t,Ve(C)?C:[C],e,o,n,i,r,a,s,c,p),w.__P&&(e.__e=null,s=d),e.__u&=-161,f&&f.some(J),l.__h.length&&a.push(l),1&l.__g&&(l.__g&=-4)}catch(j){if(a.length=y,e.__v=null,c||r)if(j&&j.then){if(e.__u|=128|c,r){for(~(E=r.indexOf(s||void 0))||(E=r.length);($=r[E-1])&&$.nodeType==8;)E--;for(;E<r.length;E++)if($=r[E])if(r[E]=null,A){if($==ee)break}else{if($.nodeType!=8)break;$.data.startsWith("$s")&&(ee=be(A=$))}}if(!A){for(;s&&s.nodeType==8&&s.nextSibling;)s=s.nextSibling;A=s}(d=be(A=e.__c.__z||(e.__c.__z=A)))?(e.__e=A,s=d):e.__e=s,s=s&&s.nextSibling}else r&&r.some(J);else e.__e=o.__e;e.__k||(e.__k=o.__k||[]),j&&j.then||Tt(e),_.__e(j,e,o)}}else s=e.__e=jo(o.__e,e,o,n,i,r,a,c,p,t);return(d=_.diffed)&&d(e),s}function be(t,e){if(t&&t.nodeType==8&&t.data.startsWith("$s"))for(var o=1;t=t.nextSibling;){if(t.nodeType==8){if(t.data.startsWith("$s"))o++;else if(t.data.startsWith("/$s")&&!--o)return t}e&&e.push(t)}}function Tt(t){t&&(t.__c&&(t.__c.__g|=4),t.__k&&t.__k.some(Tt))}function Et(t,e,o){for(var n=0;n<o.length;)Ke(o[n++],o[n++],o[n++]);_.__c&&_.__c(e,t),t.some(function(i){try{t=i.__h,i.__h=[],t.some(function(r){r.call(i)})}catch(r){_.__e(r,i.__v)}})}function jo(t,e,o,n,i,r,a,s,c,p){var d,f,y,l,m,h,v,w,g=o.props||Te,b=e.props,x=e.type;if(x=="svg"?i="http://www.w3.org/2000/svg":x=="math"?i="http://www.w3.org/1998/Math/MathML":i||(i="http://www.w3.org/1999/xhtml"),r){for(d=0;d<r.length;d++)if((m=r[d])&&(x?m.localName==x:m.nodeType==3)){t=m,r[d]=null;break}}if(!t){if(w=p.ownerDocument||document,!x)return w.createTextNode(b);t=w.createElementNS(i,x,b.is?b:p),s&&(_.__m&&_.__m(e,r),s=!1),r=null}if(x){if(p=x=="template"&&t.content||t,r=x=="textarea"&&b.defaultValue!=null?null:r&&Ge.call(p.childNodes),!s&&r)for(g={},d=0;d<t.attributes.length;d++)g[(m=t.attributes[d]).name]=m.value;for(d in g)m=g[d],d=="dangerouslySetInnerHTML"?y=m:d=="children"||d in b||d=="value"&&"defaultValue"in b||d=="checked"&&"defaultChecked"in b||_e(t,d,null,m,i);for(d in b)m=b[d],d=="children"?l=m:d=="dangerouslySetInnerHTML"?f=m:d=="value"?h=m:d=="checked"?v=m:s&&typeof m!="function"||g[d]===m||_e(t,d,m,g[d],i);f?(s||y&&(f.__html==y.__html||f.__html==t.innerHTML)||(t.innerHTML=f.__html),e.__k=[]):(y&&(t.textContent=""),(x=="foreignObject"||i=="http://www.w3.org/1998/Math/MathML"&&Co.test(x))&&(i="http://www.w3.org/1999/xhtml"),bt(p,Ve(l)?l:[l],e,o,n,i,r,a,r?r[0]:o.__k&&V(o,0),s,c),r&&r.some(J)),s&&x!="textarea"||(d="value",x=="progress"&&h==null?t.removeAttribute(d):h==null||h===t[d]&&(x!="progress"||h)||_e(t,d,h,g[d],i),d="checked",v!=null&&v!=t[d]&&_e(t,d,v,g[d],i))}else g===b||s&&t.data==b||(t.data=b);return t}function Ke(t,e,o,n){try{typeof t=="function"?e?e.__x=t(e)||1:n&&(n=n.__c||n.__e)&&(e=n.__x)&&(n.__x=null,typeof e=="function"?e():t(null)):t.current=e}catch(i){_.__e(i,o)}}function Xe(t,e,o){var n,i,r,a;if(_.unmount&&_.unmount(t),!(n=t.ref)||n.current&&n.current!=t.__e||Ke(n,null,e,t),n=t.__c){if(n.componentWillUnmount)try{n.componentWillUnmount()}catch(s){_.__e(s,e)}n.__P=n.__n=null}if(n=t.__k)for(a=0;a<n.length;a++)n[a]&&Xe(n[a],e,typeof t.type!="function"||o&&!t.props.__P);!o&&(n=t.__c)&&(n=n.__z)&&(i=be(n,r=[]))&&(n==t.__e&&r.some(J),J(i),J(n)),o||J(t.__e),t.__e=t.__c=t.__=null}function Lo(t,e,o){return this.constructor(t,o)}function Ye(t,e){var o,n,i,r;_.__&&_.__(t,e),e.nodeType==9&&(e=e.documentElement),n=(o=t&&32&t.__u)?null:e.__k,e.__k=le(M,{children:[t]}),i=[],r=[],Je(e,e.__k,n||Te,Te,e.namespaceURI,n?null:e.firstChild?Ge.call(e.childNodes):null,i,n?n.__e:e.firstChild,o,r),Et(i,e.__k,r),e.__k.props.children=null}_={__e:function(t,e,o,n){for(var i,r,a;e=e.__;)if((i=e.__c)&&!(1&i.__g)){i.__g|=4;try{if((a=(r=i.constructor)&&r.getDerivedStateFromError)&&i.setState(r.getDerivedStateFromError(t)),i.componentDidCatch&&(i.componentDidCatch(t,n||{}),a=1),a&&8&i.__g)return void(i.__g|=2)}catch(s){t=s}}throw ke=0,t}},ht=0,qe=function(t){return t!=null&&t.constructor===de},te.prototype.setState=function(t,e){var o=this.__s;o&&o!=this.state||(o=this.__s=K({},this.state)),typeof t=="function"&&(t=t(K({},o),this.props)),t&&(K(o,t),this.__v&&(e&&this.__k.push(e),yt(this)))},te.prototype.forceUpdate=function(t){this.__v&&(this.__g|=4,t&&this.__h.push(t),yt(this))},te.prototype.render=M,W=[],ke=0,gt=function(t,e){return t.__v.__b-e.__v.__b},xe=Symbol(),vt=/(PointerCapture)$|Capture$/i,We=0,De={},So=0;var Se,P,Ze,St,Bo=Object.is,Qe=0,$t=[],et=[],T=_,Ct=T.__b,Mt=T.__r,Pt=T.diffed,At=T.__c,Rt=T.unmount,jt=T.__;function Nt(t,e){T.__h&&T.__h(P,t,Qe||e),Qe=0;var o=P.__H||(P.__H={__:[],__h:[]});return t>=o.__.length&&o.__.push({}),o.__[t]}function pe(t,e){var o=Nt(Se++,3);!T.__s&&Ot(o.__H,e)&&(o.__P=!0,o.__=t,o.u=e,P.__H.__h.push(o))}function O(t){return Qe=5,oe(function(){return{current:t}},[])}function oe(t,e){var o=Nt(Se++,7);return Ot(o.__H,e)&&(o.__=t(),o.__H=e),o.__}function $o(){var t;do{for(;t=et.shift();)try{ce(t)}catch(o){T.__e(o,{__:(t=t.__P)&&t.__v})}for(;t=$t.shift();){var e=t.__H;if(t.__P&&e)try{e.__h.some(ce),e.__h.some(tt),e.__h=[]}catch(o){e.__h=[],T.__e(o,t.__v)}}}while(et.length)}T.__b=function(t){P=null,Ct&&Ct(t)},T.__=function(t,e){t&&e.__k&&e.__k.__m&&(t.__m=e.__k.__m),jt&&jt(t,e)},T.__r=function(t){Mt&&Mt(t),Se=0;var e=(P=t.__c).__H;e&&(Ze==P?P.__h=[]:(e.__h.some(ce),e.__h.some(tt),Se=0),e.__h=[],e.__.some(function(o){o.__N&&(o.__=o.__N),o.u=o.__N=void 0})),Ze=P},T.diffed=function(t){Pt&&Pt(t);var e=t.__c;e&&e.__H&&(e.__H.__h.length&&Bt($t.push(e)),e.__H.__.some(function(o){o.u&&(o.__H=o.u)})),Ze=P=null},T.__c=function(t,e){e.some(function(o){try{o.__h.some(ce),o.__h=o.__h.filter(function(n){return!n.__||tt(n)})}catch(n){o.__h=[function(){throw n}]}}),At&&At(t,e)},T.unmount=function(t){Rt&&Rt(t);var e,o,n=t.__c;n&&n.__H&&(n.__H.__.some(function(i){try{if(i.__P&&i.__c){if(o===void 0){for(o=t.__;o&&(!o.__c||!o.__c.__P);)o=o.__;o=o&&o.__c}i.__P=o,Bt(et.push(i))}else ce(i)}catch(r){e=r}}),n.__H=void 0,e&&T.__e(e,n.__v))};var Lt=typeof requestAnimationFrame=="function";function No(t){var e,o=function(){clearTimeout(n),Lt&&cancelAnimationFrame(e),setTimeout(t)},n=setTimeout(o,35);Lt&&(e=requestAnimationFrame(o))}function Bt(t){t!=1&&St==T.requestAnimationFrame||((St=T.requestAnimationFrame)||No)($o)}function ce(t){var e=P,o=t.__c;typeof o=="function"&&(t.__c=void 0,o()),P=e}function tt(t){var e=P;t.__c=t.__(),P=e}function Ot(t,e){return!t||t.length!=e.length||e.some(function(o,n){return!Bo(o,t[n])})}var Oo=Symbol.for("preact-signals");function Ae(){if(z>1)z--;else{var t,e=!1;for((function(){var i=Me;for(Me=void 0;i!==void 0;){var r=i.S;if(r.v===i.v)for(var a=r.t;a!==void 0;a=a.x)a.i===i.i&&(a.i=r.i);i=i.o}})();ue!==void 0;){var o=ue;for(ue=void 0,Ce++;o!==void 0;){var n=o.u;if(o.u=void 0,o.f&=-3,!(8&o.f)&&It(o))try{o.c()}catch(i){e||(t=i,e=!0)}o=n}}if(Ce=0,z--,e)throw t}}function ye(t){if(z>0)return t();ot=++zo,z++;try{return t()}finally{Ae()}}var fe,k=void 0;function me(t){var e=k,o=fe;k=void 0,fe=void 0;try{return t()}finally{k=e,fe=o}}var ue=void 0,z=0,Ce=0,zo=0,ot=0,Me=void 0,Pe=0;function zt(t){if(k!==void 0){var e=t.n;if(e===void 0||e.t!==k)return e={i:0,S:t,p:k.s,n:void 0,t:k,e:void 0,x:void 0,r:e},k.s!==void 0&&(k.s.n=e),k.s=e,t.n=e,32&k.f&&t.S(e),e;if(e.i===-1)return e.i=0,e.n!==void 0&&(e.n.p=e.p,e.p!==void 0&&(e.p.n=e.n),e.p=k.s,e.n=void 0,k.s.n=e,k.s=e),e}}function S(t,e){this.v=t,this.i=0,this.n=void 0,this.t=void 0,this.l=0,this.W=e?.watched,this.Z=e?.unwatched,this.name=e?.name}S.prototype.brand=Oo;S.prototype.h=function(){return!0};S.prototype.S=function(t){var e=this,o=this.t;o!==t&&t.e===void 0&&(t.x=o,this.t=t,o!==void 0?o.e=t:me(function(){var n;(n=e.W)==null||n.call(e)}))};S.prototype.U=function(t){var e=this;if(this.t!==void 0){var o=t.e,n=t.x;o!==void 0&&(o.x=n,t.e=void 0),n!==void 0&&(n.e=o,t.x=void 0),t===this.t&&(this.t=n,n===void 0&&me(function(){var i;(i=e.Z)==null||i.call(e)}))}};S.prototype.subscribe=function(t){var e=this;return F(function(){var o=e.value;me(function(){return t(o)})},{name:"sub"})};S.prototype.valueOf=function(){return this.value};S.prototype.toString=function(){return this.value+""};S.prototype.toJSON=function(){return this.value};S.prototype.peek=function(){var t=this;return me(function(){return t.value})};Object.defineProperty(S.prototype,"value",{get:function(){var t=zt(this);return t!==void 0&&(t.i=this.i),this.v},set:function(t){if(t!==this.v){if(Ce>100)throw new Error("Cycle detected");(function(o){z!==0&&Ce===0&&o.l!==ot&&(o.l=ot,Me={S:o,v:o.v,i:o.i,o:Me})})(this),this.v=t,this.i++,Pe++,z++;try{for(var e=this.t;e!==void 0;e=e.x)e.t.N()}finally{Ae()}}}});function I(t,e){return new S(t,e)}function It(t){for(var e=t.s;e!==void 0;e=e.n)if(e.S.i!==e.i||!e.S.h()||e.S.i!==e.i)return!0;return!1}function Ft(t){for(var e=t.s;e!==void 0;e=e.n){var o=e.S.n;if(o!==void 0&&(e.r=o),e.S.n=e,e.i=-1,e.n===void 0){t.s=e;break}}}function Ht(t){for(var e=t.s,o=void 0;e!==void 0;){var n=e.p;e.i===-1?(e.S.U(e),n!==void 0&&(n.n=e.n),e.n!==void 0&&(e.n.p=n)):o=e,e.S.n=e.r,e.r!==void 0&&(e.r=void 0),e=n}t.s=o}function X(t,e){S.call(this,void 0,e),this.x=t,this.s=void 0,this.g=Pe-1,this.f=4}X.prototype=new S;X.prototype.h=function(){if(this.f&=-3,1&this.f)return!1;if((36&this.f)==32||(this.f&=-5,this.g===Pe))return!0;if(this.g=Pe,this.f|=1,this.i>0&&!It(this))return this.f&=-2,!0;var t=k;try{Ft(this),k=this;var e=this.x();(16&this.f||this.v!==e||this.i===0)&&(this.v=e,this.f&=-17,this.i++)}catch(o){this.v=o,this.f|=16,this.i++}return k=t,Ht(this),this.f&=-2,!0};X.prototype.S=function(t){if(this.t===void 0){this.f|=36;for(var e=this.s;e!==void 0;e=e.n)e.S.S(e)}S.prototype.S.call(this,t)};X.prototype.U=function(t){if(this.t!==void 0&&(S.prototype.U.call(this,t),this.t===void 0)){this.f&=-33;for(var e=this.s;e!==void 0;e=e.n)e.S.U(e)}};X.prototype.N=function(){if(!(2&this.f)){this.f|=6;for(var t=this.t;t!==void 0;t=t.x)t.t.N()}};Object.defineProperty(X.prototype,"value",{get:function(){if(1&this.f)throw new Error("Cycle detected");var t=zt(this);if(this.h(),t!==void 0&&(t.i=this.i),16&this.f)throw this.v;return this.v}});function Re(t,e){return new X(t,e)}function Ut(t){var e=t.j;if(t.j=void 0,typeof e=="function"){z++;var o=k;k=void 0;try{e()}catch(n){throw t.f&=-2,t.f|=8,nt(t),n}finally{k=o,Ae()}}}function nt(t){for(var e=t.s;e!==void 0;e=e.n)e.S.U(e);t.x=void 0,t.s=void 0,Ut(t)}function Io(t){if(k!==this)throw new Error("Out-of-order effect");Ht(this),k=t,this.f&=-2;try{8&this.f&&nt(this)}finally{Ae()}}function ne(t,e){this.x=t,this.j=void 0,this.s=void 0,this.u=void 0,this.f=32,this.name=e?.name,fe&&fe.push(this)}ne.prototype.c=function(){var t=this.S();try{if(8&this.f||this.x===void 0)return;var e=this.x();typeof e=="function"&&(this.j=e)}finally{t()}};ne.prototype.S=function(){if(1&this.f)throw new Error("Cycle detected");this.f|=1,this.f&=-9,Ut(this),Ft(this),z++;var t=k;return k=this,Io.bind(this,t)};ne.prototype.N=function(){2&this.f||(this.f|=2,this.u=ue,ue=this)};ne.prototype.d=function(){this.f|=8,1&this.f||nt(this)};ne.prototype.dispose=function(){this.d()};function F(t,e){var o=new ne(t,e);try{o.c()}catch(i){throw o.d(),i}var n=o.d.bind(o);return n[Symbol.dispose]=n,n}var Dt,Le,je,Fo=typeof window<"u"&&!!window.__PREACT_SIGNALS_DEVTOOLS__;var qt=[];F(function(){Dt=this.N})();function re(t,e){_[t]=e.bind(null,_[t]||function(){})}function he(t){if(je){var e=je;je=void 0,e()}je=t&&t.S()}function Wt(t){var e=this,o=t.data,n=L(o);n.name="ReactiveDom",n.value=o;var i=oe(function(){for(var s=e,c=e.__v;c=c.__;)if(c.__c){c.__c.__$f|=4;break}var p=Re(function(){var l=n.value.value;return l===0?0:l===!0?"":l||""}),d=Re(function(){return!Array.isArray(p.value)&&!qe(p.value)}),f=F(function(){if(this.N=Vt,d.value){var l=p.value;s.__v&&s.__v.__e&&s.__v.__e.nodeType===3&&(s.__v.__e.data=l)}}),y=e.__$u.d;return e.__$u.d=function(){f(),y.call(this)},[d,p]},[]),r=i[0],a=i[1];return r.value?a.peek():a.value}Wt.displayName="ReactiveTextNode";Object.defineProperties(S.prototype,{constructor:{configurable:!0,value:wt(M,null).constructor},type:{configurable:!0,value:Wt},props:{configurable:!0,get:function(){var t=this;return{data:{get value(){return t.value}}}}},__b:{configurable:!0,value:1}});re("__b",function(t,e){if(he(),Le=void 0,typeof e.type=="string"){var o,n=e.props;for(var i in n)if(i!=="children"){var r=n[i];r instanceof S&&(o||(e.__np=o={}),o[i]=r,n[i]=r.peek())}}t(e)});re("__r",function(t,e){if(t(e),e.type!==M){he();var o,n=e.__c;n&&(n.__$f&=-2,(o=n.__$u)===void 0&&(n.__$u=o=(function(i,r){var a;return F(function(){a=this},{name:r}),a.c=i,a})((function(i){return function(){var r;Fo&&((r=this.y)==null||r.call(this)),i.__$f|=1,i.setState({})}})(n),typeof e.type=="function"?e.type.displayName||e.type.name:""))),Le=n,he(o)}});re("__e",function(t,e,o,n){he(),Le=void 0,t(e,o,n)});re("diffed",function(t,e){he(),Le=void 0;var o;if(typeof e.type=="string"&&(o=e.__e)){var n=e.__np,i=e.props,r=o.U;if(r)for(var a in r){var s=r[a];s===void 0||n&&a in n||(s.d(),r[a]=void 0)}if(n){r||(r={},o.U=r);for(var c in n){var p=r[c],d=n[c];p===void 0?(p=Ho(o,c,d,i),r[c]=p):p.o(d,i)}}}t(e)});function Ho(t,e,o,n){var i=e in t&&t.ownerSVGElement===void 0,r=I(o);return{o:function(a,s){r.value=a,n=s},d:F(function(){this.N=Vt;var a=r.value.value;n[e]!==a&&(n[e]=a,i?t[e]=a:a!=null&&(a!==!1||e[4]==="-")?t.setAttribute(e,a):t.removeAttribute(e))})}}re("unmount",function(t,e){if(typeof e.type=="string"){var o=e.__e;if(o){var n=o.U;if(n){o.U=void 0;for(var i in n){var r=n[i];r&&r.d()}}}var a=e.__np;if(a){var s=e.props;for(var c in a)s[c]=a[c]}e.__np=void 0}else{var p=e.__c;if(p){p.__$f|=8;var d=p.__$u;d&&(p.__$u=void 0,d.d())}}t(e)});re("__h",function(t,e,o,n){n<3&&(e.__$f|=2),t(e,o,n)});te.prototype.shouldComponentUpdate=function(t,e){if(this.__R)return!0;var o=this.__$u,n=o&&o.s!==void 0;for(var i in e)return!0;if(this.__f||typeof this.u=="boolean"&&this.u===!0){var r=2&this.__$f;if(!(n||r||4&this.__$f)||1&this.__$f)return!0}else if(!(n||4&this.__$f)||3&this.__$f)return!0;for(var a in t)if(a!=="__source"&&t[a]!==this.props[a])return!0;for(var s in this.props)if(!(s in t))return!0;return!1};function L(t,e){return oe(function(){return I(t,e)},[])}var Uo=function(t){queueMicrotask(function(){queueMicrotask(t)})};function Do(){ye(function(){for(var t;t=qt.shift();)Dt.call(t)})}function Vt(){qt.push(this)===1&&(_.requestAnimationFrame||Uo)(Do)}var Gt=`/* The look of all panels. JupyterLab's variables first, so that a panel follows every theme; the
   values after them are for pages without JupyterLab. */
.comfydeploy-panel {
  --cd-text: var(--jp-ui-font-color1, rgba(0, 0, 0, 0.87));
  --cd-faint: var(--jp-ui-font-color2, rgba(0, 0, 0, 0.6));
  --cd-back: var(--jp-layout-color1, #fff);
  --cd-raised: var(--jp-layout-color2, #f3f3f3);
  --cd-line: var(--jp-border-color2, #e0e0e0);
  --cd-strong-line: var(--jp-border-color1, #bdbdbd);
  --cd-brand: var(--jp-brand-color1, #1976d2);
  --cd-error: var(--jp-error-color1, #d32f2f);
  --cd-success: var(--jp-success-color1, #2e7d32);
  --cd-warn: var(--jp-warn-color1, #e65100);
  --cd-radius: var(--jp-border-radius, 4px);
  --cd-font: var(--jp-ui-font-size1, 13px);
  --cd-small: var(--jp-ui-font-size0, 11px);
  padding: 12px 14px; max-width: 960px; box-sizing: border-box; margin: 0;
  border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
  background: var(--cd-back); color: var(--cd-text);
  font-family: var(--jp-ui-font-family, system-ui, sans-serif); font-size: var(--cd-font);
  overflow: visible;
}
/* Controls that the browser draws, and the arrow of ipywidgets' lists, which is always black. */
[data-jp-theme-light=false] .comfydeploy-panel {
  color-scheme: dark;
  --jp-widgets-dropdown-arrow: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E%3Cpath d='M5.2 5.9L9 9.7l3.8-3.8 1.2 1.2-4.9 5-4.9-5z' fill='%23e0e0e0'/%3E%3C/svg%3E");
}
.comfydeploy-panel .comfydeploy-panel { padding: 0; border: 0; max-width: none; }
.comfydeploy-panel *, .comfydeploy-panel *::before { box-sizing: border-box; }
.comfydeploy-panel .widget-html-content { line-height: 1.4; }
.comfydeploy-panel .widget-label { color: var(--cd-text); }
.comfydeploy-panel .widget-checkbox { height: auto; }
.comfydeploy-panel :is(.widget-dropdown, .widget-text) { min-width: 0; }
.comfydeploy-panel input { text-overflow: ellipsis; }
.comfydeploy-panel .widget-checkbox > .widget-label-basic { width: auto; min-width: 0; overflow: visible; white-space: normal; }
.comfydeploy-panel .widget-inline-hbox > .widget-label { text-align: start; }
.comfydeploy-panel .widget-box { overflow: visible; }
.comfydeploy-panel .comfydeploy-error {
  padding: 6px 12px; white-space: pre-wrap; overflow-wrap: anywhere;
  border-left: 3px solid var(--cd-error); background: var(--cd-raised);
}
.comfydeploy-panel .cd-unbroken { white-space: nowrap; }
.comfydeploy-panel .comfydeploy-note { color: var(--cd-faint); }
.comfydeploy-panel .comfydeploy-note a { color: inherit; text-decoration: underline; }
.comfydeploy-panel :is(button, input, select, textarea, a, summary):focus-visible {
  outline: 2px solid var(--cd-brand); outline-offset: 1px;
}
.comfydeploy-panel .jupyter-widget-tab > .lm-TabBar { min-height: 0; max-height: none; height: auto; flex: none; }
.comfydeploy-panel .jupyter-widget-tab > .lm-TabBar > .lm-TabBar-content { flex-wrap: wrap; }
.comfydeploy-panel .jupyter-widget-tab > .lm-TabBar .lm-TabBar-tab {
  flex: none; min-width: 0; padding: 0 12px;
}
@media (max-width: 560px) {
  .comfydeploy-panel .jupyter-widget-tab > .lm-TabBar .lm-TabBar-tab { padding: 0 8px; }
}
.comfydeploy-panel :is(.lm-TabBar-tabLabel, .jupyter-widget-Collapse-header) { color: var(--cd-text); }
.comfydeploy-panel :is(.jupyter-widget-tab, .jupyter-widget-accordion) { margin: 0; }
.comfydeploy-panel .jupyter-widget-tab > .widget-tab-contents { padding: 10px 12px 12px; }

/* -- components ------------------------------------------------------------------------------ */

.comfydeploy-panel .cd-panel { border: 0; padding: 0; }
.comfydeploy-view .cd-rows { display: flex; flex-direction: column; gap: 8px; min-width: 0; }
.comfydeploy-view .cd-labelled { display: grid; grid-template-columns: 110px minmax(0, 1fr); gap: 8px; align-items: center; }
.comfydeploy-view .cd-log { margin: 4px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; }

/* -- controls -------------------------------------------------------------------------------- */

.comfydeploy-panel.cd-drop { outline: 2px dashed var(--cd-brand); outline-offset: 2px; }
.comfydeploy-panel .comfydeploy-kernel-status[hidden], .comfydeploy-panel .comfydeploy-panel .comfydeploy-kernel-status { display: none; }
.comfydeploy-panel .jupyter-widgets-disconnected::before, .comfydeploy-panel.jupyter-widgets-disconnected::before { content: none; }
.comfydeploy-panel.cd-dead :is(button, input, select, textarea):disabled { opacity: 0.5; cursor: not-allowed; }
.comfydeploy-view { width: 100%; min-width: 0; max-width: 100%; margin: 0; container-type: inline-size; }
.comfydeploy-view[hidden] { display: none; }
.comfydeploy-view:is(.comfydeploy-file, .comfydeploy-button) { width: auto; container-type: normal; flex: none; }
.comfydeploy-view :is(input:not([type=checkbox], [type=color], [type=file]), select, textarea) {
  width: 100%; min-width: 0; height: 28px; padding: 2px 8px; margin: 0;
  font: inherit; color: var(--cd-text); background: var(--cd-back);
  border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius);
}
.comfydeploy-view textarea {
  height: auto; min-height: 66px; max-height: 320px; padding: 5px 8px; line-height: 1.4;
  resize: vertical; display: block; field-sizing: content;
}
.comfydeploy-view option { color: var(--cd-text); background: var(--cd-back); }
.comfydeploy-view ::placeholder { color: var(--cd-faint); opacity: 1; }
.comfydeploy-view input[type=checkbox] { width: 16px; height: 16px; margin: 6px 0; accent-color: var(--cd-brand); }
.comfydeploy-view input[type=color] {
  width: 44px; height: 28px; padding: 2px; flex: none; cursor: pointer;
  border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius); background: var(--cd-back);
}
.comfydeploy-view .cd-short { max-width: 200px; }
.comfydeploy-view .cd-button, .comfydeploy-view .cd-icon {
  font: inherit; color: var(--cd-text); background: var(--cd-raised); cursor: pointer;
  height: 28px; border: 1px solid transparent; border-radius: var(--cd-radius);
  padding: 0 10px; white-space: nowrap; flex: none;
}
.comfydeploy-view .cd-icon { width: 28px; padding: 0; }
.comfydeploy-view :is(.cd-button, .cd-icon):hover:enabled { border-color: var(--cd-strong-line); }
.comfydeploy-view .cd-icon[aria-pressed=true] { color: var(--cd-brand); border-color: var(--cd-brand); }
.comfydeploy-view .cd-button.cd-primary { color: var(--jp-ui-inverse-font-color1, #fff); background: var(--cd-brand); }
.comfydeploy-view button:disabled { opacity: 0.5; cursor: default; }
.comfydeploy-view summary { cursor: pointer; padding: 4px 0; }
.comfydeploy-view .cd-line { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px; }
.comfydeploy-view .cd-times input { width: 64px; }
.comfydeploy-view .cd-spread { justify-content: space-between; flex-wrap: nowrap; }
.comfydeploy-view .cd-grow { flex: 1 1 140px; min-width: 0; }
.comfydeploy-view .cd-cut, .comfydeploy-view .cd-node {
  min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
.comfydeploy-view :is(.cd-faint, .cd-hint) { color: var(--cd-faint); }
.comfydeploy-view .cd-number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.comfydeploy-view .cd-unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
.comfydeploy-view .cd-frame {
  display: flex; align-items: center; justify-content: center; overflow: hidden; flex: none;
  color: var(--cd-text); background: var(--cd-raised);
  border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-view .cd-frame img { width: 100%; height: 100%; object-fit: cover; display: block; margin: 0; }

/* -- missing models and nodes ---------------------------------------------------------------- */

.comfydeploy-panel .comfydeploy-missing {
  padding: 8px 12px; border: 1px solid var(--cd-line); border-left: 3px solid var(--cd-warn);
}
.comfydeploy-panel .cd-missing { overflow-x: auto; max-height: 320px; }
.comfydeploy-panel .cd-missing table { width: 100%; border-collapse: collapse; font-size: var(--cd-font); }
.comfydeploy-panel .cd-missing :is(th, td) { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; }
.comfydeploy-panel .cd-missing th { color: var(--cd-faint); font-weight: normal; white-space: nowrap; }
.comfydeploy-panel .cd-missing td { overflow-wrap: anywhere; }
.comfydeploy-panel .cd-missing td:first-child { width: 40%; }
.comfydeploy-panel .cd-missing td:is(:nth-child(2), :nth-child(3)) { white-space: nowrap; overflow-wrap: normal; font-variant-numeric: tabular-nums; }
.comfydeploy-panel .cd-missing a { color: inherit; text-decoration: underline; }
.comfydeploy-panel .cd-missing .cd-wrong td:last-child { color: var(--cd-error); }

/* -- combo boxes ----------------------------------------------------------------------------- */

.comfydeploy-view .cd-combo { position: relative; width: 100%; }
.comfydeploy-view .cd-combo > input { padding-right: 26px; text-overflow: ellipsis; }
.comfydeploy-view .cd-combo > i { position: absolute; right: 10px; top: 8px; pointer-events: none; color: var(--cd-faint); }
.comfydeploy-view .cd-list {
  position: fixed; inset: auto; margin: 0; padding: 4px 0; overflow-y: auto; list-style: none; z-index: 10000;
  color: var(--cd-text); background: var(--cd-back); font-size: var(--cd-font);
  border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius); box-shadow: 0 4px 12px rgba(0, 0, 0, 0.25);
}
.comfydeploy-view .cd-list:not(.cd-open, :popover-open) { display: none; }
.comfydeploy-view .cd-list li {
  display: flex; justify-content: space-between; gap: 16px; margin: 0; padding: 4px 10px; cursor: pointer; line-height: 1.4;
}
.comfydeploy-view .cd-list li span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-view .cd-list small { color: var(--cd-faint); white-space: nowrap; }
.comfydeploy-view .cd-list li:is(:hover, .cd-active) { background: var(--cd-raised); }
.comfydeploy-view .cd-list li.cd-active { box-shadow: inset 3px 0 var(--cd-brand); }
.comfydeploy-view .cd-list li[aria-selected=true] span { font-weight: 600; }
.comfydeploy-view .cd-list li.cd-more { color: var(--cd-faint); cursor: default; }
.comfydeploy-search { display: grid; grid-template-columns: minmax(0, 160px) minmax(0, 1fr); align-items: center; gap: 2px 12px; }
.comfydeploy-search label { font-weight: 600; }
.comfydeploy-panel .cd-picker .comfydeploy-search { grid-template-columns: auto minmax(0, 1fr); }
.comfydeploy-panel .cd-picker > .widget-hbox { align-items: flex-end !important; }

/* -- the form -------------------------------------------------------------------------------- */

.comfydeploy-form .cd-form-head { min-height: 28px; margin-bottom: 6px; }
.comfydeploy-form .cd-form-head[hidden] { display: none; }
.comfydeploy-form .cd-rows { display: grid; gap: 8px; }
.comfydeploy-form .cd-end-mark { height: 1px; }
.comfydeploy-form .cd-section {
  padding: 6px 10px 8px; border: 1px solid var(--cd-line); border-radius: var(--cd-radius); min-width: 0;
}
.comfydeploy-form .cd-heading { font-weight: 600; padding: 1px 0; margin-bottom: 3px; overflow-wrap: anywhere; }
.comfydeploy-form :is(.cd-heading, .cd-field > label) { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.comfydeploy-form .cd-field {
  display: grid; gap: 2px 12px; padding: 3px 0; align-items: start; position: relative; min-width: 0;
  grid-template-columns: minmax(88px, min(30%, 180px)) minmax(0, 1fr);
  grid-template-areas: "label control" ". problem";
}
.comfydeploy-form .cd-rows > .cd-field { margin-inline: 11px; }
.comfydeploy-form .cd-rows > .cd-field + .cd-field { margin-top: -7px; }
.comfydeploy-form .cd-field:is(.cd-multiline, .cd-image, .cd-video, .cd-audio) {
  grid-template-columns: minmax(0, 1fr); grid-template-areas: "label" "control" "problem";
}
.comfydeploy-form .cd-field > :is(label, .cd-label) { grid-area: label; padding-top: 6px; line-height: 1.3; overflow-wrap: anywhere; position: relative; }
.comfydeploy-form .cd-field:is(.cd-multiline, .cd-image, .cd-video, .cd-audio) > label { padding-top: 2px; }
.comfydeploy-form .cd-size .cd-line { grid-area: control; }
.comfydeploy-form .cd-size select { width: 92px; }
.comfydeploy-form .cd-control { grid-area: control; display: flex; gap: 6px; align-items: flex-start; min-width: 0; }
.comfydeploy-form .cd-control > :first-child:not([type=checkbox]) { flex: 1 1 auto; min-width: 0; }
.comfydeploy-form .cd-control > .cd-short:first-child { flex: 0 1 200px; }
.comfydeploy-form .cd-color .cd-line { flex-wrap: nowrap; }
.comfydeploy-form .cd-slide { flex-wrap: nowrap; }
.comfydeploy-form .cd-slide > .cd-short { flex: 0 0 92px; }
.comfydeploy-form .cd-slide > [type=range] {
  flex: 1 1 60px; width: auto; padding: 0; border: 0; background: none; accent-color: var(--cd-brand); cursor: pointer;
}
/* Range, default and description are over the page while the field has the focus, so nothing moves. */
.comfydeploy-form .cd-hint {
  position: absolute; top: calc(100% - 2px); right: 34px; max-width: min(100%, 420px); z-index: 3; pointer-events: none;
  display: none; padding: 3px 8px; font-size: var(--cd-small); line-height: 1.35; overflow-wrap: anywhere;
  color: var(--cd-text); background: var(--cd-raised); border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius);
  box-shadow: 0 2px 6px rgba(0, 0, 0, 0.2);
}
.comfydeploy-form .cd-field:focus-within > .cd-hint:not([hidden]) { display: block; }
.comfydeploy-form .cd-field:has([aria-expanded=true]) > .cd-hint:not([hidden]) { display: none; }
.comfydeploy-form .cd-seed .cd-control > .cd-line { flex: 1 1 auto; flex-wrap: nowrap; }
.comfydeploy-form .cd-seed .cd-short { flex: 1 1 60px; }
.comfydeploy-form .cd-seed .cd-faint { white-space: nowrap; font-size: var(--cd-small); flex: 1 1 auto; }
.comfydeploy-form .cd-back { visibility: hidden; }
.comfydeploy-form .cd-changed .cd-back { visibility: visible; }
.comfydeploy-form .cd-field:is(.cd-multiline, .cd-image, .cd-video, .cd-audio) .cd-back { position: absolute; top: 0; right: 0; height: 22px; }
.comfydeploy-form .cd-changed > label::after { content: " •" / ""; color: var(--cd-brand); font-weight: 700; }
.comfydeploy-form .cd-picture { border: 1px dashed transparent; border-radius: var(--cd-radius); }
.comfydeploy-form .cd-picture.cd-drop { border-color: var(--cd-brand); }
.comfydeploy-form .cd-picture .cd-frame { width: 56px; height: 56px; display: none; }
.comfydeploy-form .cd-picture .cd-frame.cd-there { display: flex; }
.comfydeploy-form .cd-picture .cd-frame:is(.cd-video, .cd-audio) { width: 220px; height: auto; border: 0; }
.comfydeploy-form .cd-picture :is(video, audio) { width: 100%; max-height: 124px; display: block; }
.comfydeploy-form .cd-picture audio { height: 32px; }
.comfydeploy-form .cd-required { color: color-mix(in srgb, var(--cd-error) 75%, var(--cd-text)); }
.comfydeploy-form .cd-problem {
  grid-area: problem; padding-left: 8px; border-left: 3px solid var(--cd-error); overflow-wrap: anywhere;
  color: color-mix(in srgb, var(--cd-error) 75%, var(--cd-text));
}
.comfydeploy-view :is(input, select, textarea)[aria-invalid=true] { border-color: var(--cd-error); box-shadow: 0 0 0 1px var(--cd-error); }
.comfydeploy-form .cd-unshown { padding: 4px 0; overflow-wrap: anywhere; }
.comfydeploy-form .cd-others { margin-top: 8px; }
.comfydeploy-form .cd-search { padding: 4px 0 8px; }
.comfydeploy-form .cd-search > input { max-width: 320px; }
@container (max-width: 460px) {
  .comfydeploy-search > :is(label, div) { grid-column: 1 / -1; }
  .comfydeploy-form .cd-field:not(.cd-changed) .cd-back { display: none; }
}
@container (max-width: 260px) {
  .comfydeploy-form .cd-field { grid-template-columns: minmax(0, 1fr); grid-template-areas: "label" "control" "problem"; }
  .comfydeploy-form .cd-field > label { padding-top: 0; }
  .comfydeploy-form .cd-field .cd-control, .comfydeploy-form .cd-field .cd-control > .cd-line { flex-wrap: wrap; }
  .comfydeploy-form .cd-slide > .cd-short { flex-shrink: 1; }
  .comfydeploy-form .cd-form-head > .cd-button { flex: 0 1 auto; height: auto; min-height: 28px; white-space: normal; }
}

.comfydeploy-presets { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 4px 12px; align-items: center; }
.comfydeploy-presets > label { font-weight: 600; }
.comfydeploy-presets .cd-line { flex-wrap: nowrap; }
.comfydeploy-presets .cd-message { grid-column: 1 / -1; flex-wrap: wrap; min-width: 0; overflow-wrap: anywhere; }
.comfydeploy-presets .cd-message:has(> :first-child:empty) { display: none; }
.comfydeploy-presets .cd-message.cd-problem { padding: 4px 12px; border-left: 3px solid var(--cd-warn); background: var(--cd-raised); }
.comfydeploy-presets .cd-message.cd-problem .cd-button { background: var(--cd-back); border-color: var(--cd-strong-line); }
.comfydeploy-presets [hidden] { display: none; }
@container (max-width: 260px) {
  .comfydeploy-presets > :is(label, .cd-line) { grid-column: 1 / -1; }
  .comfydeploy-presets .cd-line { flex-wrap: wrap; }
}

@container cd-body (max-width: 420px) {
  .comfydeploy-panel .cd-bar-box .cd-state { order: 1; flex: 1 0 100% !important; }
  .comfydeploy-panel .cd-bar-box .cd-state:has(.comfydeploy-note:empty) { display: none; }
  .comfydeploy-panel .cd-bar-box .comfydeploy-keys { margin-left: auto; }
}

/* -- ways to begin ---------------------------------------------------------------------------- */

.comfydeploy-start { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(260px, 100%), 1fr)); align-items: stretch; }
.comfydeploy-start .cd-card {
  display: flex; flex-direction: column; gap: 6px; min-width: 0; padding: 12px 14px 14px; border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-start .cd-heading { font-weight: 600; font-size: 1.1em; }
.comfydeploy-start p { margin: 0 0 4px; }
.comfydeploy-start .cd-choice { display: flex; gap: 8px; align-items: center; text-align: left; width: 100%; min-width: 0; }
.comfydeploy-start .cd-choice > .fa { flex: none; width: 14px; text-align: center; }

/* There is nothing to run yet; an error is still shown. */
.comfydeploy-start:not([hidden]) ~ .cd-body > .cd-bar-box { position: static; padding-block: 0; border: 0; }
.comfydeploy-start:not([hidden]) ~ .cd-body > .cd-bar-box > .widget-hbox { display: none; }
.comfydeploy-start:not([hidden]) ~ .cd-body > .cd-work { display: none; }

/* -- running a workflow: the bar stays in sight, the form is beside the result ----------------- */

.comfydeploy-panel:is(.cd-wide, .comfydeploy-sweep, :has(.cd-wide)) { max-width: none; }
.comfydeploy-panel .cd-body {
  display: block; width: 100%; min-width: 0; container: cd-body / inline-size; overflow: visible;
}
.comfydeploy-panel .cd-bar-box {
  position: sticky; top: 0; z-index: 4; display: grid; grid-template-columns: minmax(0, 1fr); gap: 6px; margin: 0 -14px; padding: 8px 14px; width: auto;
  background: var(--cd-back); border-bottom: 1px solid var(--cd-line); overflow: visible;
}
.comfydeploy-panel .comfydeploy-panel .cd-bar-box { margin: 0 -12px; padding-inline: 12px; }
.comfydeploy-panel .cd-bar-box .widget-html { margin: 0; }
.comfydeploy-panel .cd-bar-box .comfydeploy-error { max-height: 30vh; overflow-y: auto; }
.comfydeploy-panel .cd-work {
  display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px 24px; align-items: start; padding-top: 10px; width: 100%; overflow: visible;
}
.comfydeploy-panel .cd-work > .widget-box { display: grid; gap: 10px; min-width: 0; width: auto; overflow: visible; }
.comfydeploy-panel .cd-body > :last-child { margin-top: 14px; }
@container cd-body (min-width: 640px) {
  .comfydeploy-panel .cd-work { grid-template-columns: minmax(300px, 2fr) minmax(0, 3fr); }
  .comfydeploy-panel .cd-work > .cd-result {
    position: sticky; top: calc(var(--cd-bar, 46px) + 10px); max-height: calc(var(--cd-view, 100vh) - var(--cd-bar, 46px) - 20px);
    overflow-y: auto; scrollbar-width: thin;
  }
}
@container cd-body (min-width: 1600px) {
  .comfydeploy-panel .cd-work { grid-template-columns: minmax(480px, 1fr) minmax(0, 2fr); }
}
.comfydeploy-start:not([hidden]) ~ .cd-body .cd-work { display: none; }
.comfydeploy-panel .cd-result:not(:has(> :not([hidden])))::before {
  content: "The result appears here"; display: none; place-items: center; min-height: max(220px, min(var(--cd-room, 220px), 50vh)); color: var(--cd-faint);
  border: 1px dashed var(--cd-strong-line); border-radius: var(--cd-radius);
}
@container cd-body (min-width: 640px) {
  .comfydeploy-panel .cd-result:not(:has(> :not([hidden])))::before { display: grid; }
}
/* Elements of JupyterLab around a panel must not scroll themselves, or nothing in it would stick. */
:is(.jp-OutputArea-child, .jp-OutputArea-output, .jp-OutputArea, .jupyter-widgets-view, .widget-subarea, .jp-Cell-outputArea):has(.cd-bar-box) { overflow: visible; min-width: 0; }
:is(.jp-mod-outputsScrolled .jp-Cell-outputArea, .jp-LinkedOutputView .jp-OutputArea):has(.cd-bar-box) { overflow-y: auto; }
.comfydeploy-panel :is(.jupyter-widget-tab, .widget-tab-contents):has(.cd-bar-box) { overflow: visible; }
.comfydeploy-view.comfydeploy-keys { container-type: normal; width: auto; display: flex; flex-wrap: wrap; gap: 6px 8px; }
.comfydeploy-keys .cd-ask { flex: 1 1 100%; padding: 6px 12px; border-left: 3px solid var(--cd-warn); background: var(--cd-raised); }
.comfydeploy-keys .cd-ask[hidden] { display: none; }
.comfydeploy-keys .cd-help {
  max-width: min(92vw, 460px); padding: 12px 16px 16px; color: var(--cd-text); background: var(--cd-back);
  border: 1px solid var(--cd-line); border-radius: var(--cd-radius); font-size: var(--cd-font);
}
.comfydeploy-keys .cd-help::backdrop { background: rgba(0, 0, 0, 0.4); }
.comfydeploy-keys dl { display: grid; grid-template-columns: auto 1fr; gap: 8px 16px; margin: 10px 0 0; align-items: baseline; }
.comfydeploy-keys :is(dt, dd) { float: none; width: auto; margin: 0; padding: 0; background: none; color: var(--cd-text); font-weight: normal; }
.comfydeploy-keys dt { display: flex; gap: 4px; }
.comfydeploy-keys kbd {
  padding: 1px 6px; font: inherit; color: var(--cd-text); background: var(--cd-raised); border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius); box-shadow: none;
}
.comfydeploy-link .cd-line { gap: 8px; margin-bottom: 8px; }
.comfydeploy-link a { flex: 1 1 auto; overflow-wrap: anywhere; font-size: 110%; line-height: 1.5; color: var(--cd-brand); }
.comfydeploy-link img { width: min(240px, 100%); aspect-ratio: 1; margin: 4px 0 0; display: block; }
.comfydeploy-preview { display: grid; gap: 4px; justify-items: start; }
.comfydeploy-preview img { max-width: 100%; max-height: var(--cd-room, 480px); width: 100%; object-fit: contain; object-position: left top; border-radius: var(--cd-radius); margin: 0; }
.comfydeploy-gallery.cd-busy :is(img, video, audio) { filter: grayscale(1) opacity(0.45); }
.comfydeploy-preview:not([hidden]) ~ .comfydeploy-gallery.cd-busy { display: none; }

/* -- the machine ----------------------------------------------------------------------------- */

.comfydeploy-machine { container: cd-machine / inline-size; }
/* Rows of about the same length: no fact is alone in the last one. */
.comfydeploy-machine .cd-facts { margin: 0 -12px -6px 0; text-wrap: balance; }
.comfydeploy-machine .cd-facts > div { display: inline-block; vertical-align: top; width: 120px; margin: 0 12px 6px 0; text-wrap: wrap; }
.comfydeploy-machine .cd-facts > .cd-wide { width: 252px; }
.comfydeploy-machine .cd-facts :is(dt, dd) { float: none; width: auto; margin: 0; padding: 0; background: none; color: var(--cd-text); font-size: var(--cd-font); font-weight: normal; }
.comfydeploy-machine .cd-facts dt { color: var(--cd-faint); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
/* Where fewer than four facts fit in a row, each has a row of its own, with its name at the left. */
@container cd-machine (max-width: 520px) {
  .comfydeploy-machine .cd-facts { display: grid; grid-template-columns: fit-content(60%) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
  .comfydeploy-machine .cd-facts > div { display: contents; }
}
.comfydeploy-machine .cd-members {
  display: grid; gap: 8px; margin: 8px 0 0; padding: 0; list-style: none; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr));
}
.comfydeploy-machine .cd-members li { min-width: 0; margin: 0; padding: 6px 10px; border: 1px solid var(--cd-line); border-radius: var(--cd-radius); overflow-wrap: anywhere; }
.comfydeploy-machine .cd-members .cd-name { display: flex; gap: 6px; align-items: baseline; }
.comfydeploy-machine .cd-members b { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-machine .cd-members .cd-work-left { margin-left: auto; white-space: nowrap; font-variant-numeric: tabular-nums; }
.comfydeploy-machine .cd-members :is(.cd-work-left, .cd-loaded) { color: var(--cd-faint); }
.comfydeploy-machine .cd-facts dd { font-variant-numeric: tabular-nums; }
:is(.comfydeploy-machine, .comfydeploy-missing) .cd-meter { height: 4px; margin-top: 2px; overflow: hidden; border-radius: 2px; background: var(--cd-line); }
:is(.comfydeploy-machine, .comfydeploy-missing) .cd-meter > div { height: 100%; background: var(--cd-brand); }
:is(.comfydeploy-machine, .comfydeploy-missing) .cd-meter.cd-full > div { background: var(--cd-error); }

/* -- progress -------------------------------------------------------------------------------- */

.comfydeploy-progress { display: grid; grid-template-columns: minmax(0, 1fr); gap: 5px; position: relative; }
:is(.comfydeploy-progress, .comfydeploy-sheet) .cd-bar { height: 12px; overflow: hidden; border-radius: var(--cd-radius); background: var(--cd-raised); border: 1px solid var(--cd-line); }
:is(.comfydeploy-progress, .comfydeploy-sheet) .cd-bar > div { height: 100%; width: 0; background: var(--cd-brand); }
.comfydeploy-progress .cd-thin { height: 6px; border: 0; }

/* -- the outputs ----------------------------------------------------------------------------- */

.comfydeploy-gallery > div { display: grid; grid-template-columns: minmax(0, 1fr); gap: 10px; }
.comfydeploy-view .cd-status { font-weight: 600; }
/* The colours of the themes have too little contrast for text. */
.comfydeploy-view .cd-success { color: color-mix(in srgb, var(--cd-success) 60%, var(--cd-text)); }
.comfydeploy-view .cd-failed { color: color-mix(in srgb, var(--cd-error) 75%, var(--cd-text)); }
.comfydeploy-view .cd-cancelled { color: color-mix(in srgb, var(--cd-warn) 50%, var(--cd-text)); }
.comfydeploy-gallery .cd-head > span:not(.cd-grow) { color: var(--cd-faint); }
.comfydeploy-gallery .cd-head > .cd-grow { flex-basis: 0; }
.comfydeploy-gallery .cd-head > .cd-reused:not(:empty) { flex: 1 0 100%; text-align: end; }
.comfydeploy-gallery .cd-head > .cd-reused:empty { position: absolute; }
/* At the right also below the facts, if it has no room beside them. */
.comfydeploy-gallery .cd-head > .cd-button { flex: 0 1 auto; margin-left: auto; height: auto; min-height: 28px; white-space: normal; }
.comfydeploy-gallery .cd-pictures { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(min(170px, 45%), 1fr)); }
.comfydeploy-gallery .cd-pictures.cd-few { grid-template-columns: repeat(auto-fit, minmax(min(260px, 45%), 1fr)); }
.comfydeploy-gallery .cd-few > * {
  --cd-rows: 1; --cd-most: calc((var(--cd-room, 480px) - 8px * (var(--cd-rows) - 1)) / var(--cd-rows)); max-height: var(--cd-most);
}
.comfydeploy-gallery .cd-few video { max-height: calc(var(--cd-most) - 24px); }
/* Three or four pictures have two rows, unless they fit into one. */
@container (max-width: 795px) {
  .comfydeploy-gallery .cd-few:has(> :nth-child(3)) > * { --cd-rows: 2; }
}
@container (max-width: 1063px) {
  .comfydeploy-gallery .cd-few:has(> :nth-child(4)) > * { --cd-rows: 2; }
}
.comfydeploy-gallery .cd-pictures.cd-single { display: block; }
.comfydeploy-gallery .cd-picture-button {
  display: flex; align-items: center; justify-content: center; padding: 0; overflow: hidden; cursor: zoom-in; min-width: 0;
  aspect-ratio: 1; width: 100%; background: var(--cd-raised); border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-gallery .cd-picture-button img { max-width: 100%; max-height: 100%; margin: 0; display: block; }
.comfydeploy-gallery .cd-single .cd-picture-button { width: auto; aspect-ratio: auto; max-width: 100%; min-width: 64px; min-height: 64px; }
.comfydeploy-gallery .cd-single img { max-height: var(--cd-room, 480px); }
.comfydeploy-gallery figure { margin: 0; min-width: 0; }
.comfydeploy-gallery figcaption { color: var(--cd-faint); padding-top: 2px; }
.comfydeploy-gallery .cd-players { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.comfydeploy-gallery :is(video, audio) { width: 100%; max-height: 420px; display: block; border-radius: var(--cd-radius); }
.comfydeploy-gallery pre {
  word-break: normal;
  margin: 2px 0 0; padding: 8px 12px; max-height: 240px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  color: var(--cd-text); background: var(--cd-raised); border-radius: var(--cd-radius); font-size: var(--jp-code-font-size, 13px);
}
.comfydeploy-gallery pre.cd-code { white-space: pre; overflow-wrap: normal; }
.comfydeploy-gallery .cd-tiles { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.comfydeploy-gallery .cd-tile {
  display: flex; flex-wrap: wrap; align-items: center; gap: 8px; min-width: 0; padding: 8px 12px;
  background: var(--cd-raised); border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-gallery .cd-model { grid-column: 1 / -1; margin: 0; }
.comfydeploy-gallery .cd-stage {
  height: min(480px, 60vh); overflow: hidden; background: var(--cd-raised); border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-gallery .cd-stage > canvas { display: block; cursor: grab; touch-action: none; }
.comfydeploy-gallery .cd-tile > .cd-faint { color: var(--cd-text); font-size: var(--cd-small); white-space: nowrap; }
.comfydeploy-gallery .cd-tile > .cd-faint.cd-error-text { flex: 1 0 100%; white-space: normal; overflow-wrap: anywhere; }
.comfydeploy-gallery .cd-pictures > .cd-tile { flex-direction: column; justify-content: center; aspect-ratio: 1; text-align: center; }
.comfydeploy-gallery .cd-pictures > .cd-tile > .cd-cut { flex: none; max-width: 100%; white-space: normal; overflow-wrap: anywhere; }
.comfydeploy-gallery .cd-pictures:not(.cd-single) > .cd-tile > .cd-faint.cd-error-text { flex: none; }
.comfydeploy-gallery .cd-pictures.cd-single > .cd-tile { aspect-ratio: auto; flex-direction: row; }
.comfydeploy-gallery .cd-pictures > .cd-tile > .fa { font-size: 24px; color: var(--cd-faint); }
.comfydeploy-view .cd-compare { display: grid; gap: 4px; justify-items: start; }
.comfydeploy-view .cd-stack { position: relative; display: grid; max-width: 100%; overflow: hidden; border-radius: var(--cd-radius); }
.comfydeploy-view .cd-stack > * { grid-area: 1 / 1; }
.comfydeploy-view .cd-stack > img { display: block; max-width: 100%; max-height: 480px; margin: 0; width: 100%; object-fit: contain; }
.comfydeploy-view .cd-stack > img + img { position: absolute; inset: 0; height: 100%; clip-path: inset(0 calc(100% - var(--cd-cut)) 0 0); }
.comfydeploy-view .cd-stack::after {
  content: ""; position: absolute; inset: 0 auto 0 var(--cd-cut); width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none;
}
.comfydeploy-view .cd-stack > input[type=range] {
  align-self: end; z-index: 1; width: 100%; height: 28px; padding: 0; margin: 0; border: 0; background: none; cursor: ew-resize; accent-color: var(--cd-brand);
}
.comfydeploy-view .cd-tag {
  align-self: start; justify-self: start; z-index: 1; margin: 6px; padding: 0 6px; font-size: var(--cd-small); color: #fff; background: rgba(0, 0, 0, 0.6); border-radius: var(--cd-radius);
}
.comfydeploy-view .cd-tag.cd-after { justify-self: end; }
.comfydeploy-gallery .cd-rest > :not(summary) { margin-top: 10px; }
.comfydeploy-view .cd-download { color: var(--jp-content-link-color, var(--cd-brand)); text-decoration: none; }
.comfydeploy-view .cd-download:hover { text-decoration: underline; }
.comfydeploy-gallery .cd-chart { width: 100%; border-collapse: collapse; table-layout: fixed; border: 0; margin: 0; font-size: var(--cd-font); }
.comfydeploy-gallery .cd-chart :is(th, td) { padding: 2px 8px 2px 0; text-align: left; font-weight: normal; border: 0; background: none; vertical-align: middle; }
.comfydeploy-gallery .cd-chart th { width: 32%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-gallery .cd-chart td.cd-number { width: 72px; padding-right: 0; text-align: right; }
.comfydeploy-gallery .cd-chart tr { background: none !important; }
.comfydeploy-gallery .cd-fill { height: 10px; border-radius: 2px; background: var(--cd-brand); }
.comfydeploy-view .cd-lightbox {
  width: min(96vw, 1600px); max-width: none; height: 94vh; max-height: none; padding: 8px; margin: auto; border: 1px solid var(--cd-line);
  border-radius: var(--cd-radius); color: var(--cd-text); background: var(--cd-back); overflow: hidden;
}
.comfydeploy-view .cd-lightbox[open] { display: flex; flex-direction: column; gap: 8px; }
.comfydeploy-view .cd-lightbox::backdrop { background: rgba(0, 0, 0, 0.6); }
.comfydeploy-view .cd-lightbox .cd-full { flex: 1 1 0; min-height: 0; display: flex; align-items: center; justify-content: center; }
.comfydeploy-view .cd-lightbox .cd-full img { max-width: 100%; max-height: 100%; margin: 0; object-fit: contain; }

/* -- earlier runs ---------------------------------------------------------------------------- */

.comfydeploy-history .cd-top { flex-wrap: nowrap; align-items: flex-start; padding: 2px 0 6px; }
.comfydeploy-history .cd-filters { flex: 1 1 auto; min-width: 0; }
.comfydeploy-history .cd-filters select { width: auto; max-width: 180px; text-overflow: ellipsis; }
.comfydeploy-history .cd-dates[hidden] { display: none; }
.comfydeploy-history .cd-dates label { display: flex; gap: 6px; align-items: center; max-width: 100%; }
.comfydeploy-history .cd-dates input { flex: 0 1 140px; }
.comfydeploy-history .cd-selection:not(:empty) { padding-bottom: 6px; }
.comfydeploy-history .cd-message:not(:empty) { padding: 4px 10px; margin-bottom: 6px; background: var(--cd-raised); border-left: 3px solid var(--cd-brand); overflow-wrap: anywhere; }
.comfydeploy-history .cd-message.cd-problem-text { border-left-color: var(--cd-error); }
.comfydeploy-history .cd-wall { overflow-y: auto; padding: 2px; margin: 0 -2px; contain: content; }
.comfydeploy-history .cd-runs { position: relative; margin: 0; padding: 0; list-style: none; }
.comfydeploy-history .cd-runs li { position: absolute; height: 148px; margin: 0; min-width: 0; }
.comfydeploy-history .cd-run {
  display: grid; gap: 2px; width: 100%; height: 100%; padding: 4px; text-align: start; font: inherit; font-size: var(--cd-small); cursor: pointer;
  grid-template-rows: minmax(0, 1fr) auto auto; color: var(--cd-text); background: none; border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-history .cd-run:hover { border-color: var(--cd-strong-line); }
.comfydeploy-history .cd-run[aria-pressed=true] { border-color: var(--cd-brand); box-shadow: 0 0 0 1px var(--cd-brand); }
.comfydeploy-history .cd-run > span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-history .cd-run .cd-frame { height: auto; min-height: 0; }
.comfydeploy-history .cd-why {
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 6; overflow: hidden;
  padding: 0 4px; overflow-wrap: anywhere; white-space: normal; line-height: 1.25; text-align: start;
}
.comfydeploy-history .cd-frame > .fa { font-size: 24px; color: var(--cd-faint); }
.comfydeploy-history .cd-when { font-weight: 600; }
.comfydeploy-history .cd-status { font-weight: normal; }
.comfydeploy-history .cd-success { color: var(--cd-faint); }
.comfydeploy-history li > :is(.cd-select, .cd-icon) { position: absolute; margin: 0; background: var(--cd-back); border: 1px solid var(--cd-strong-line); }
.comfydeploy-history li > .cd-select { top: 9px; inset-inline-start: 9px; }
.comfydeploy-history li > .cd-icon { width: 24px; height: 24px; }
.comfydeploy-history .cd-pin { top: 8px; inset-inline-end: 8px; }
.comfydeploy-history .cd-larger { bottom: 40px; inset-inline-end: 8px; }
@media (hover: hover) {
  .comfydeploy-history li:not(:hover, :focus-within) > :is(.cd-select:not(:checked), .cd-icon:not([aria-pressed=true])) { opacity: 0; }
}
.comfydeploy-view .cd-dialog {
  max-width: min(480px, 92vw); max-height: 92vh; padding: 16px; gap: 10px; overflow: auto; color: var(--cd-text); background: var(--cd-back);
  border: 1px solid var(--cd-strong-line); border-radius: var(--cd-radius);
}
.comfydeploy-view .cd-dialog[open] { display: flex; flex-direction: column; }
.comfydeploy-view .cd-dialog::backdrop { background: rgba(0, 0, 0, 0.6); }
.comfydeploy-history .cd-wide-dialog { width: min(1200px, 96vw); max-width: none; }
.comfydeploy-view .cd-question { font-weight: 600; }
.comfydeploy-view .cd-check { display: flex; gap: 8px; align-items: center; }
.comfydeploy-view .cd-end { justify-content: flex-end; }
.comfydeploy-view .cd-danger:enabled { color: var(--cd-back); background: color-mix(in srgb, var(--cd-error) 82%, var(--cd-text)); }
.comfydeploy-history .cd-columns { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
.comfydeploy-history .cd-columns > * { flex: 1 1 340px; min-width: 0; }
.comfydeploy-history .cd-columns > :first-child:has(.cd-stack) { flex-grow: 2; }
.comfydeploy-history .cd-columns .cd-stack > img { max-height: min(72vh, 800px); }
.comfydeploy-history .cd-pair { display: grid; gap: 8px; grid-template-columns: minmax(0, 1fr); color: var(--cd-faint); }
.comfydeploy-history .cd-pair > .cd-line { justify-content: center; }
.comfydeploy-history .cd-differences { overflow: auto; max-height: 70vh; }
.comfydeploy-history .cd-differences table { width: 100%; border-collapse: collapse; table-layout: fixed; }
.comfydeploy-history .cd-differences :is(th, td) { padding: 4px 8px; text-align: start; vertical-align: top; border-bottom: 1px solid var(--cd-line); overflow-wrap: anywhere; white-space: pre-wrap; }
.comfydeploy-history .cd-differences thead th { color: var(--cd-faint); }
.comfydeploy-view .cd-sides { flex: 1 1 0; min-height: 0; display: flex; gap: 12px; }
.comfydeploy-view .cd-side { flex: 0 0 300px; overflow-y: auto; min-width: 0; }
.comfydeploy-view .cd-about { display: grid; gap: 10px; min-width: 0; }
.comfydeploy-view .cd-about dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 2px 12px; margin: 0; }
.comfydeploy-view .cd-about dt { color: var(--cd-faint); }
.comfydeploy-view .cd-about dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.comfydeploy-history .cd-swatch {
  display: inline-block; width: 1em; height: 1em; margin-inline-end: 6px; vertical-align: -0.1em; border: 1px solid var(--cd-strong-line);
}
.comfydeploy-history .cd-prompts, .comfydeploy-history .cd-prompts figure { display: grid; gap: 4px; margin: 0; min-width: 0; }
.comfydeploy-history .cd-prompts { gap: 10px; }
.comfydeploy-history .cd-prompts b { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.comfydeploy-history .cd-prompts a { color: inherit; text-decoration: underline; white-space: nowrap; }
.comfydeploy-history .cd-prompt { padding: 6px 8px; background: var(--cd-raised); white-space: pre-wrap; overflow-wrap: anywhere; overflow-y: auto; max-height: 30vh; }
@media (max-width: 760px) {
  .comfydeploy-view .cd-sides { flex-direction: column; }
  .comfydeploy-view .cd-side { flex: 0 1 45%; }
}
@container (max-width: 460px) {
  .comfydeploy-history .cd-filters .cd-grow { flex-basis: 100%; }
  .comfydeploy-history .cd-filters select { max-width: none; flex: 1 1 100px; }
  .comfydeploy-history .cd-dates { flex: 1 1 100%; }
  .comfydeploy-history .cd-dates label > span { min-width: 36px; }
}

/* -- sweeps ----------------------------------------------------------------------------------- */

.comfydeploy-view.comfydeploy-sheet { display: grid; grid-template-columns: minmax(0, 1fr); gap: 6px; }
.comfydeploy-sheet [hidden] { display: none; }
.comfydeploy-sheet > .cd-line > .cd-grow { overflow-wrap: anywhere; }
.comfydeploy-sheet .cd-button[aria-pressed=true] { color: var(--cd-text); border-color: var(--cd-brand); box-shadow: inset 0 0 0 1px var(--cd-brand); }
.comfydeploy-sheet .cd-sheet { overflow-x: auto; padding: 3px; margin: 0 -3px; }
.comfydeploy-sheet table { border-collapse: separate; border-spacing: 6px; border: 0; margin: 0 -6px; width: auto; font-size: var(--cd-font); background: none; }
.comfydeploy-sheet :is(th, td) { padding: 0; border: 0; background: none; color: var(--cd-text); text-align: center; font-weight: normal; vertical-align: middle; }
.comfydeploy-sheet tr { background: none; }
.comfydeploy-sheet thead tr:first-child th { text-align: start; font-weight: 600; }
.comfydeploy-sheet thead tr:last-child th[scope=col]:first-child:not(:only-child) { max-width: 200px; }
.comfydeploy-sheet th > span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; overflow-wrap: anywhere; line-height: 1.3; }
.comfydeploy-sheet th[scope=row] { text-align: end; max-width: 200px; min-width: 56px; }
.comfydeploy-sheet tbody td { width: 192px; min-width: 104px; }
.comfydeploy-sheet .cd-points { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(min(150px, 45%), 192px)); margin: 0; padding: 0; list-style: none; }
.comfydeploy-sheet .cd-points li { min-width: 0; margin: 0; content-visibility: auto; contain-intrinsic-size: auto 220px; }
.comfydeploy-sheet .cd-caption { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; overflow-wrap: anywhere; line-height: 1.3; padding-top: 2px; }
.comfydeploy-sheet .cd-point { position: relative; }
.comfydeploy-sheet .cd-picture-button {
  display: flex; align-items: center; justify-content: center; padding: 0; overflow: hidden; cursor: zoom-in; width: 100%; min-width: 0; aspect-ratio: var(--cd-ratio, 1);
  font: inherit; color: var(--cd-text); background: var(--cd-raised); border: 1px solid var(--cd-line); border-radius: var(--cd-radius);
}
.comfydeploy-sheet .cd-picture-button img { max-width: 100%; max-height: 100%; width: 100%; height: 100%; object-fit: contain; margin: 0; display: block; }
.comfydeploy-sheet .cd-says { max-height: 100%; padding: 4px 8px; overflow: hidden; overflow-wrap: anywhere; white-space: pre-wrap; text-align: start; font-size: var(--cd-small); }
.comfydeploy-sheet .cd-point:is(.cd-is-waiting, .cd-is-queued, .cd-is-running, .cd-is-uploading) .cd-says { color: var(--cd-faint); }
.comfydeploy-sheet .cd-is-running .cd-picture-button { border-color: var(--cd-brand); }
.comfydeploy-sheet .cd-is-failed .cd-picture-button { border-color: var(--cd-error); }
.comfydeploy-sheet .cd-star { position: absolute; top: 4px; inset-inline-end: 4px; width: 26px; height: 26px; background: var(--cd-back); border: 1px solid var(--cd-strong-line); }
@media (hover: hover) {
  .comfydeploy-sheet .cd-point:not(:hover, :focus-within) > .cd-star:not([aria-pressed=true]) { opacity: 0; }
}
.comfydeploy-sheet .cd-said { width: 100%; max-height: 100%; margin: 0; padding: 8px 12px; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; color: var(--cd-text); background: var(--cd-raised); }
`;function Xt(t,e={},...o){let n=document.createElement(t);for(let[r,a]of Object.entries(e))a!=null&&(r.startsWith("on")?n.addEventListener(r.slice(2),a):r in n&&!r.includes("-")?Object.assign(n,{[r]:a}):n.setAttribute(r,String(a)));let i=r=>r!=null;return n.append(...o.flat().filter(i)),n}var Jt=0;function ie(){return Jt+=1,`comfydeploy-${Math.random().toString(36).slice(2,10)}-${Jt}`}var Kt="data-lm-suppress-shortcuts";function Yt(t){let e=({target:o})=>o.setAttribute(Kt,"true");return t.setAttribute(Kt,"true"),t.addEventListener("focusin",e),()=>t.removeEventListener("focusin",e)}var Wo=1500;async function Vo(t){if(navigator.clipboard&&window.isSecureContext){await navigator.clipboard.writeText(t);return}let e=Xt("textarea",{value:t});e.style.cssText="position: fixed; opacity: 0",document.body.append(e),e.select();let o=document.execCommand("copy");if(e.remove(),!o)throw new Error("the browser refuses")}async function Zt(t,e,o){let n=e.textContent;try{await Vo(t),e.textContent="Copied"}catch{e.textContent="Not copied"}setTimeout(o??(()=>{e.textContent=n}),Wo)}var Go=Symbol.for("pv"),Jo=0;function u(t,e,o,n,i,r){e||(e={});var a,s,c=e;if("ref"in c&&typeof t!="function")for(s in c={},e)s=="ref"?a=e[s]:c[s]=e[s];var p={type:t,props:c,key:o,ref:a,__k:null,__:null,__b:0,__e:null,__c:null,constructor:Go,__v:--Jo,__i:-1,__u:0};return(i||r)&&(p.__source=i,p.__self=r),_.vnode&&_.vnode(p),p}function Ko({name:t}){return u("i",{class:`fa fa-${t}`,"aria-hidden":"true"})}function Be({label:t,onClick:e,icon:o,hint:n,primary:i,disabled:r}){return u("button",{type:"button",class:`cd-button${i?" cd-primary":""}`,title:n,disabled:r,onClick:e,children:[o&&u(Ko,{name:o}),o&&" ",t]})}function Xo(){let t=O("");return t.current||=ie(),t.current}function Qt(t){let e=Xo();return u("div",{class:"cd-labelled",children:[u("label",{htmlFor:e,children:t.label}),t.children(e)]})}function eo({label:t,value:e,options:o,onChange:n,disabled:i}){return u(Qt,{label:t,children:r=>u("select",{id:r,value:e,disabled:i,onChange:a=>n(a.currentTarget.value),children:o.map(([a,s])=>u("option",{value:a,children:s},a))})})}function rt({label:t,onInput:e,input:o,type:n="text",...i}){return u(Qt,{label:t,children:r=>u("input",{id:r,ref:o,type:n,autocomplete:"off",spellcheck:!1,onInput:a=>e(a.currentTarget.value),...i})})}function to({label:t,checked:e,onChange:o,disabled:n}){return u("label",{class:"cd-check",children:[u("input",{type:"checkbox",checked:e,disabled:n,onChange:i=>o(i.currentTarget.checked)})," ",t]})}function Yo({text:t}){let e=t.split(/(--\w[\w-]*)/);return u(M,{children:e.map((o,n)=>n%2?u("span",{class:"cd-unbroken",children:o}):o)})}function H({text:t,children:e}){return t?u("div",{class:"comfydeploy-error",role:"alert",children:[u(Yo,{text:t}),e]}):null}function Y({children:t,live:e}){return u("div",{class:"comfydeploy-note",...e&&{role:"status","aria-live":"polite"},children:t})}function oo({text:t,colour:e}){return u("div",{role:"status","aria-live":"polite",children:[u("span",{"aria-hidden":"true",style:{color:`var(--cd-${e})`},children:"●"})," ",t]})}function $e({href:t,children:e,title:o}){return u("a",{href:t,title:o,target:"_blank",rel:"noopener noreferrer",children:e})}function no({label:t,text:e}){let o=O(null);return u("button",{type:"button",class:"cd-button","aria-live":"polite",ref:o,title:e,disabled:!e,onClick:()=>{let{current:i}=o;i&&Zt(e,i)},children:t})}function ro(t,e){let o=O(()=>{}),n=O(e);return n.current=e,pe(()=>{let i=new AbortController,r=!1,a,s=!1,c=!0,p=async()=>{if(clearTimeout(a),c=!0,s||!r||document.hidden||i.signal.aborted)return;s=!0,c=!1;let y=await n.current(i.signal);s=!1,c?p():i.signal.aborted||(a=setTimeout(p,y))};o.current=p;let d=new IntersectionObserver(y=>{r=y.at(-1)?.isIntersecting??!1,r&&p()});t.current&&d.observe(t.current);let f=()=>!document.hidden&&p();return document.addEventListener("visibilitychange",f),()=>{i.abort(),clearTimeout(a),d.disconnect(),document.removeEventListener("visibilitychange",f)}},[t]),()=>o.current()}function io(){let t=L(!1),e=L("");return{run:async n=>{e.value="",t.value=!0;try{await n()}catch(i){e.value=i instanceof Error?i.message:String(i)}finally{t.value=!1}},busy:t,error:e,clear:()=>{e.value=""}}}var ae=class{constructor(e){this.model=e}model;added=[];on(e,o){this.model.on(e,o),this.added.push([e,o])}end(){for(let[e,o]of this.added)this.model.off(e,o)}};var Zo=new Set(["restarting","autorestarting","terminating","dead"]);function ao(t,e,o){let n=!1,i=()=>{n||o(),n=!0},r=()=>{e.closest(".jupyter-widgets-disconnected")&&i()},a=new ae(t);a.on("comm:close comm_live_update",()=>setTimeout(r));let s=new MutationObserver(r);s.observe(e,{attributeFilter:["class"]});let c=setTimeout(r),{context:p}=t.widget_manager??{},d=p?.sessionContext,f=d?.session?.kernel?.id,y=()=>{let m=d?.session?.kernel;(!m||m.id!==f||Zo.has(m.status))&&i()},l=[d?.statusChanged,d?.kernelChanged];for(let m of l)m?.connect(y);return()=>{clearTimeout(c),s.disconnect(),a.end();for(let m of l)m?.disconnect(y)}}function G(t){try{return JSON.parse(t??"")}catch{return null}}function se(t){return t instanceof Error?t.message:String(t)}var Qo=5e3;function so(){return G(document.getElementById("jupyter-config-data")?.textContent)??{}}function Ne(){let t={},e=document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];e&&(t["X-XSRFToken"]=decodeURIComponent(e));let{token:o}=so();return o&&(t.Authorization=`token ${o}`),t}var it=new Map;function lo({base:t,instance:e}){let o=so().baseUrl||t;if(!e||!o)return Promise.resolve(null);let n=`${o} ${e}`,i=it.get(n);if(i)return i;let r=fetch(`${o}comfyui-deploy/check-status`,{headers:Ne(),cache:"no-store",signal:AbortSignal.timeout(Qo)}).then(a=>a.json()).then(a=>a.instance===e?o:null).catch(()=>(it.delete(n),null));return it.set(n,r),r}function en(t,e){let o=new Map,n=r=>{let a=o.get(r)??t(r);return o.set(r,a),a},i=r=>{ye(()=>{for(let[a,s]of Object.entries(r))n(a).value=s}),e(r)};return new Proxy({},{get:(r,a)=>a==="set"?i:n(String(a))})}function co(t,e){return en(o=>{let n=I(t.get(o));return e.on(`change:${o}`,()=>{n.value=t.get(o)}),n},o=>{for(let[n,i]of Object.entries(o))t.set(n,i);t.save_changes()})}var R=class extends Error{constructor(o,n,i="",r={}){super(n);this.status=o;this.code=i;this.details=r}status;code;details;get isUnreachable(){return this.status===0}},fo="You are signed out of Jupyter: sign in again in another tab of the browser",Oe="The Jupyter server does not answer",tn="This Jupyter server does not know what the panel asks for: its comfydeploy_jupyter has another version, or is not enabled. Restart Jupyter after an installation",po=1<<20,on=4,nn=4;function Z(t,e){let o=G(e),n=o?.message??o?.error;return o?.code&&n?new R(t,n,o.code,o.details):t===401||t===403?new R(t,fo,"signed_out"):t===404?new R(t,tn,"no_route"):new R(t,n??`The Jupyter server answered ${t}`)}function ge(t={}){let e=Object.entries(t).filter(([,n])=>n!=null),o=new URLSearchParams(e.map(([n,i])=>[n,String(i)])).toString();return o&&`?${o}`}async function*rn(t){let e="";for await(let o of t){let n=(e+o).split(/\r?\n\r?\n/);e=n.pop()??"";for(let i of n){let r="message",a=[];for(let s of i.split(/\r?\n/))s.startsWith("event:")&&(r=s.slice(6).trim()),s.startsWith("data:")&&a.push(s.slice(5).trimStart());a.length&&(yield{event:r,data:G(a.join(`
`))})}}}var ze=class{streams=0;waiting=[];async request(e,o,n={}){let{status:i,content:r}=await this.raw(e,o,n),a=await new Blob(r).text();if(i<200||i>299)throw Z(i,a);let s=G(a);if(s===null)throw new R(i,fo,"signed_out");return s}get(e,o={},n){return this.request("GET",e,{query:o,...n&&{signal:n}})}post(e,o={},n){return this.request("POST",e,{body:o,...n&&{signal:n}})}async content(e,o={}){let{status:n,type:i,content:r}=await this.raw("GET",e,o),a=new Blob(r,{type:i});if(n<200||n>299)throw Z(n,await a.text());return a}async size(e,o){let{status:n,size:i}=await this.raw("HEAD",e,{query:o});if(n<200||n>299)throw Z(n,"");return i}async*events(e,o={}){this.streams>=nn?await new Promise(n=>this.waiting.push(n)):this.streams+=1;try{o.signal?.throwIfAborted(),yield*rn(this.texts(e,o))}finally{let n=this.waiting.shift();n?n():this.streams-=1}}},Ie=class extends ze{constructor(o){super();this.base=o}base;async fetch(o,n,i){let{query:r,body:a,signal:s}=i,c=Ne();a!==void 0&&(c["Content-Type"]="application/json");try{return await fetch(`${this.base}comfyui-deploy/${n}${ge(r)}`,{method:o,headers:c,...a!==void 0&&{body:JSON.stringify(a)},...s&&{signal:s}})}catch(p){throw s?.aborted?s.reason:new R(0,Oe,"unreachable",{reason:se(p)})}}async raw(o,n,i){let r=await this.fetch(o,n,i),a=Number(r.headers.get("Content-Length")??-1),s=r.headers.get("Content-Type")??"";try{return{status:r.status,type:s,size:a,content:[await r.blob()]}}catch(c){throw i.signal?.aborted?i.signal.reason:new R(0,Oe,"unreachable",{reason:se(c)})}}async*texts(o,n){let i=await this.fetch(n.body===void 0?"GET":"POST",o,n);if(!i.ok||!i.body)throw Z(i.status,await i.text());let r=i.body.pipeThrough(new TextDecoderStream).getReader();try{for(;;){let{done:a,value:s}=await r.read();if(a)return;yield s}}catch(a){throw n.signal?.aborted?n.signal.reason:new R(0,Oe,"unreachable",{reason:se(a)})}finally{r.cancel().catch(()=>{})}}send(o,{query:n,fields:i,file:r,progress:a,signal:s}){return new Promise((c,p)=>{let d=new FormData;for(let[l,m]of Object.entries(i??{}))d.append(l,m);d.append("file",r,r.name);let f=new XMLHttpRequest;f.open("POST",`${this.base}comfyui-deploy/${o}${ge(n)}`);for(let[l,m]of Object.entries(Ne()))f.setRequestHeader(l,m);f.upload.onprogress=({loaded:l,total:m})=>a?.(l/Math.max(1,m)),f.upload.onload=()=>a?.(1),f.onload=()=>{let{status:l,responseText:m}=f,h=G(m);l>=200&&l<=299&&h?c(h):p(Z(l,m))};let y="The connection was lost, or the file was removed";f.onerror=()=>p(new R(0,y,"unreachable")),f.onabort=()=>p(s?.reason),s?.addEventListener("abort",()=>f.abort()),s?.aborted?p(s.reason):f.send(d)})}},ve=class extends ze{constructor(o){super();this.model=o;o.on("msg:custom",(n,i)=>{this.listeners.get(n.id)?.(n,i)})}model;base=null;listeners=new Map;gone=null;end(){this.gone=new R(0,"The kernel of this panel has ended","no_kernel");for(let[o,n]of this.listeners)n({kind:"gone",id:o},[])}call(o,n,i){if(this.gone)throw this.gone;i?.throwIfAborted();let r=ie();return this.listeners.set(r,n),i?.addEventListener("abort",()=>{this.listeners.has(r)&&(this.model.send({kind:"abort",id:r}),n({kind:"aborted",id:r},[]))}),this.model.send({...o,id:r}),r}failure(o,n){return o.kind==="aborted"?n?.reason:this.gone?this.gone:new R(0,o.error??Oe,"unreachable")}raw(o,n,i){let{query:r,body:a=null,signal:s}=i;return new Promise((c,p)=>{let d=this.call({kind:"request",method:o,path:n,query:ge(r).slice(1),body:a},(f,y)=>{this.listeners.delete(d);let{kind:l,status:m=0,type:h="",size:v=-1}=f;l==="reply"?c({status:m,type:h,size:v,content:y}):p(this.failure(f,s))},s)})}async*texts(o,n){let{query:i,body:r=null,signal:a}=n,s=[],c=new TextDecoder,p=null,d=!1,f=()=>{},y=n.body===void 0?"GET":"POST",l=this.call({kind:"stream",method:y,path:o,query:ge(i).slice(1),body:r},(m,h)=>{m.kind==="data"?s.push(c.decode(h[0],{stream:!0})):(d=!0,m.kind==="reply"?p=Z(m.status??0,at(h)):m.kind!=="end"&&(p=this.failure(m,a))),f()},a);try{for(;s.length||!d;){let m=s.shift();m!==void 0?yield m:await new Promise(h=>{f=h})}if(p)throw p}finally{this.listeners.delete(l),d||this.model.send({kind:"abort",id:l})}}async send(o,n){let{query:i,fields:r={},file:a,progress:s,signal:c}=n,p=0,d=()=>{},f,{name:y,size:l}=a,m={path:o,query:ge(i).slice(1),fields:r,name:y,size:l},h=this.call({kind:"upload",...m},(w,g)=>{w.kind==="took"?p+=1:f=[w,g],d()},c),v=async w=>{for(;!w()&&!f;)await new Promise(g=>{d=g})};try{await v(()=>p>0);for(let x=0,B=1;x<l&&!f;x+=po,B+=1){await v(()=>B-p<on);let q=await a.slice(x,x+po).arrayBuffer();f||this.model.send({kind:"piece",id:h,offset:x},void 0,[q]),s?.(Math.min(1,x/Math.max(1,l)))}await v(()=>!1),s?.(1);let[w,g]=f;if(w.kind!=="reply")throw this.failure(w,c);let b=w.status??0;if(b<200||b>299)throw Z(b,at(g));return G(at(g))}finally{this.listeners.delete(h)}}};function at(t){return t.map(e=>new TextDecoder().decode(e)).join("")}var Q=(t=>(t[t.Border=-1]="Border",t[t.Data=0]="Data",t[t.Function=1]="Function",t[t.Position=2]="Position",t[t.Timing=3]="Timing",t[t.Alignment=4]="Alignment",t))(Q||{}),an=[0,1],mo=[1,0],ho=[2,3],go=[3,2],sn={L:an,M:mo,Q:ho,H:go},ln=/^\d*$/,dn=/^[A-Z0-9 $%*+./:-]*$/,st="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:",pt=1,ft=40,uo=3,cn=3,Fe=40,pn=10,vo=[[-1,7,10,15,20,26,18,20,24,30,18,20,24,26,30,22,24,28,30,28,28,28,28,30,30,26,28,30,30,30,30,30,30,30,30,30,30,30,30,30,30],[-1,10,16,26,18,24,16,18,22,22,26,30,22,22,24,24,28,28,26,26,26,26,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28,28],[-1,13,22,18,26,18,24,18,22,20,24,28,26,24,20,30,24,28,28,26,30,28,30,30,30,30,28,30,30,30,30,30,30,30,30,30,30,30,30,30,30],[-1,17,28,22,16,22,28,26,26,24,28,24,28,22,24,24,30,28,28,26,28,30,24,30,30,30,30,30,30,30,30,30,30,30,30,30,30,30,30,30,30]],wo=[[-1,1,1,1,1,1,2,2,2,2,4,4,4,4,4,6,6,6,6,7,8,8,9,9,10,12,12,12,13,14,15,16,17,18,19,19,20,21,22,24,25],[-1,1,1,1,2,2,4,4,4,5,5,5,8,9,9,10,10,11,13,14,16,17,17,18,20,21,23,25,26,28,29,31,33,35,37,38,40,43,45,47,49],[-1,1,1,2,2,4,4,6,6,8,8,8,10,12,16,12,17,16,18,21,20,23,23,25,27,29,34,34,35,38,40,43,45,48,51,53,56,59,62,65,68],[-1,1,1,2,4,4,4,5,6,8,8,11,11,16,16,18,16,19,21,25,25,25,34,30,32,35,37,40,42,45,48,51,54,57,60,63,66,70,74,77,81]],lt=class{constructor(e,o,n,i){if(this.version=e,this.ecc=o,e<pt||e>ft)throw new RangeError("Version value out of range");if(i<-1||i>7)throw new RangeError("Mask value out of range");this.size=e*4+17;let r=Array.from({length:this.size}).fill(!1);for(let s=0;s<this.size;s++)this.modules.push(r.slice()),this.types.push(r.map(()=>0));this.drawFunctionPatterns();let a=this.addEccAndInterleave(n);if(this.drawCodewords(a),i===-1){let s=1e9;for(let c=0;c<8;c++){this.applyMask(c),this.drawFormatBits(c);let p=this.getPenaltyScore();p<s&&(i=c,s=p),this.applyMask(c)}}this.mask=i,this.applyMask(i),this.drawFormatBits(i)}size;mask;modules=[];types=[];getModule(e,o){return e>=0&&e<this.size&&o>=0&&o<this.size&&this.modules[o][e]}drawFunctionPatterns(){for(let n=0;n<this.size;n++)this.setFunctionModule(6,n,n%2===0,Q.Timing),this.setFunctionModule(n,6,n%2===0,Q.Timing);this.drawFinderPattern(3,3),this.drawFinderPattern(this.size-4,3),this.drawFinderPattern(3,this.size-4);let e=this.getAlignmentPatternPositions(),o=e.length;for(let n=0;n<o;n++)for(let i=0;i<o;i++)n===0&&i===0||n===0&&i===o-1||n===o-1&&i===0||this.drawAlignmentPattern(e[n],e[i]);this.drawFormatBits(0),this.drawVersion()}drawFormatBits(e){let o=this.ecc[1]<<3|e,n=o;for(let r=0;r<10;r++)n=n<<1^(n>>>9)*1335;let i=(o<<10|n)^21522;for(let r=0;r<=5;r++)this.setFunctionModule(8,r,U(i,r));this.setFunctionModule(8,7,U(i,6)),this.setFunctionModule(8,8,U(i,7)),this.setFunctionModule(7,8,U(i,8));for(let r=9;r<15;r++)this.setFunctionModule(14-r,8,U(i,r));for(let r=0;r<8;r++)this.setFunctionModule(this.size-1-r,8,U(i,r));for(let r=8;r<15;r++)this.setFunctionModule(8,this.size-15+r,U(i,r));this.setFunctionModule(8,this.size-8,!0)}drawVersion(){if(this.version<7)return;let e=this.version;for(let n=0;n<12;n++)e=e<<1^(e>>>11)*7973;let o=this.version<<12|e;for(let n=0;n<18;n++){let i=U(o,n),r=this.size-11+n%3,a=Math.floor(n/3);this.setFunctionModule(r,a,i),this.setFunctionModule(a,r,i)}}drawFinderPattern(e,o){for(let n=-4;n<=4;n++)for(let i=-4;i<=4;i++){let r=Math.max(Math.abs(i),Math.abs(n)),a=e+i,s=o+n;a>=0&&a<this.size&&s>=0&&s<this.size&&this.setFunctionModule(a,s,r!==2&&r!==4,Q.Position)}}drawAlignmentPattern(e,o){for(let n=-2;n<=2;n++)for(let i=-2;i<=2;i++)this.setFunctionModule(e+i,o+n,Math.max(Math.abs(i),Math.abs(n))!==1,Q.Alignment)}setFunctionModule(e,o,n,i=Q.Function){this.modules[o][e]=n,this.types[o][e]=i}addEccAndInterleave(e){let o=this.version,n=this.ecc;if(e.length!==He(o,n))throw new RangeError("Invalid argument");let i=wo[n[0]][o],r=vo[n[0]][o],a=Math.floor(dt(o)/8),s=i-a%i,c=Math.floor(a/i),p=[],d=_n(r);for(let y=0,l=0;y<i;y++){let m=e.slice(l,l+c-r+(y<s?0:1));l+=m.length;let h=xn(m,d);y<s&&m.push(0),p.push(m.concat(h))}let f=[];for(let y=0;y<p[0].length;y++)p.forEach((l,m)=>{(y!==c-r||m>=s)&&f.push(l[y])});return f}drawCodewords(e){if(e.length!==Math.floor(dt(this.version)/8))throw new RangeError("Invalid argument");let o=0;for(let n=this.size-1;n>=1;n-=2){n===6&&(n=5);for(let i=0;i<this.size;i++)for(let r=0;r<2;r++){let a=n-r,c=(n+1&2)===0?this.size-1-i:i;!this.types[c][a]&&o<e.length*8&&(this.modules[c][a]=U(e[o>>>3],7-(o&7)),o++)}}}applyMask(e){if(e<0||e>7)throw new RangeError("Mask value out of range");for(let o=0;o<this.size;o++)for(let n=0;n<this.size;n++){let i;switch(e){case 0:i=(n+o)%2===0;break;case 1:i=o%2===0;break;case 2:i=n%3===0;break;case 3:i=(n+o)%3===0;break;case 4:i=(Math.floor(n/3)+Math.floor(o/2))%2===0;break;case 5:i=n*o%2+n*o%3===0;break;case 6:i=(n*o%2+n*o%3)%2===0;break;case 7:i=((n+o)%2+n*o%3)%2===0;break;default:throw new Error("Unreachable")}!this.types[o][n]&&i&&(this.modules[o][n]=!this.modules[o][n])}}getPenaltyScore(){let e=0;for(let r=0;r<this.size;r++){let a=!1,s=0,c=[0,0,0,0,0,0,0];for(let p=0;p<this.size;p++)this.modules[r][p]===a?(s++,s===5?e+=uo:s>5&&e++):(this.finderPenaltyAddHistory(s,c),a||(e+=this.finderPenaltyCountPatterns(c)*Fe),a=this.modules[r][p],s=1);e+=this.finderPenaltyTerminateAndCount(a,s,c)*Fe}for(let r=0;r<this.size;r++){let a=!1,s=0,c=[0,0,0,0,0,0,0];for(let p=0;p<this.size;p++)this.modules[p][r]===a?(s++,s===5?e+=uo:s>5&&e++):(this.finderPenaltyAddHistory(s,c),a||(e+=this.finderPenaltyCountPatterns(c)*Fe),a=this.modules[p][r],s=1);e+=this.finderPenaltyTerminateAndCount(a,s,c)*Fe}for(let r=0;r<this.size-1;r++)for(let a=0;a<this.size-1;a++){let s=this.modules[r][a];s===this.modules[r][a+1]&&s===this.modules[r+1][a]&&s===this.modules[r+1][a+1]&&(e+=cn)}let o=0;for(let r of this.modules)o=r.reduce((a,s)=>a+(s?1:0),o);let n=this.size*this.size,i=Math.ceil(Math.abs(o*20-n*10)/n)-1;return e+=i*pn,e}getAlignmentPatternPositions(){if(this.version===1)return[];{let e=Math.floor(this.version/7)+2,o=this.version===32?26:Math.ceil((this.version*4+4)/(e*2-2))*2,n=[6];for(let i=this.size-7;n.length<e;i-=o)n.splice(1,0,i);return n}}finderPenaltyCountPatterns(e){let o=e[1],n=o>0&&e[2]===o&&e[3]===o*3&&e[4]===o&&e[5]===o;return(n&&e[0]>=o*4&&e[6]>=o?1:0)+(n&&e[6]>=o*4&&e[0]>=o?1:0)}finderPenaltyTerminateAndCount(e,o,n){return e&&(this.finderPenaltyAddHistory(o,n),o=0),o+=this.size,this.finderPenaltyAddHistory(o,n),this.finderPenaltyCountPatterns(n)}finderPenaltyAddHistory(e,o){o[0]===0&&(e+=this.size),o.pop(),o.unshift(e)}};function D(t,e,o){if(e<0||e>31||t>>>e)throw new RangeError("Value out of range");for(let n=e-1;n>=0;n--)o.push(t>>>n&1)}function U(t,e){return(t>>>e&1)!==0}var we=class{constructor(e,o,n){if(this.mode=e,this.numChars=o,this.bitData=n,o<0)throw new RangeError("Invalid argument");this.bitData=n.slice()}getData(){return this.bitData.slice()}},fn=[1,10,12,14],un=[2,9,11,13],yn=[4,8,16,16];function _o(t,e){return t[Math.floor((e+7)/17)+1]}function xo(t){let e=[];for(let o of t)D(o,8,e);return new we(yn,t.length,e)}function mn(t){if(!bo(t))throw new RangeError("String contains non-numeric characters");let e=[];for(let o=0;o<t.length;){let n=Math.min(t.length-o,3);D(Number.parseInt(t.substring(o,o+n),10),n*3+1,e),o+=n}return new we(fn,t.length,e)}function hn(t){if(!ko(t))throw new RangeError("String contains unencodable characters in alphanumeric mode");let e=[],o;for(o=0;o+2<=t.length;o+=2){let n=st.indexOf(t.charAt(o))*45;n+=st.indexOf(t.charAt(o+1)),D(n,11,e)}return o<t.length&&D(st.indexOf(t.charAt(o)),6,e),new we(un,t.length,e)}function gn(t){return t===""?[]:bo(t)?[mn(t)]:ko(t)?[hn(t)]:[xo(wn(t))]}function bo(t){return ln.test(t)}function ko(t){return dn.test(t)}function vn(t,e){let o=0;for(let n of t){let i=_o(n.mode,e);if(n.numChars>=1<<i)return Number.POSITIVE_INFINITY;o+=4+i+n.bitData.length}return o}function wn(t){t=encodeURI(t);let e=[];for(let o=0;o<t.length;o++)t.charAt(o)!=="%"?e.push(t.charCodeAt(o)):(e.push(Number.parseInt(t.substring(o+1,o+3),16)),o+=2);return e}function dt(t){if(t<pt||t>ft)throw new RangeError("Version number out of range");let e=(16*t+128)*t+64;if(t>=2){let o=Math.floor(t/7)+2;e-=(25*o-10)*o-55,t>=7&&(e-=36)}return e}function He(t,e){return Math.floor(dt(t)/8)-vo[e[0]][t]*wo[e[0]][t]}function _n(t){if(t<1||t>255)throw new RangeError("Degree out of range");let e=[];for(let n=0;n<t-1;n++)e.push(0);e.push(1);let o=1;for(let n=0;n<t;n++){for(let i=0;i<e.length;i++)e[i]=ct(e[i],o),i+1<e.length&&(e[i]^=e[i+1]);o=ct(o,2)}return e}function xn(t,e){let o=e.map(n=>0);for(let n of t){let i=n^o.shift();o.push(0),e.forEach((r,a)=>o[a]^=ct(r,i))}return o}function ct(t,e){if(t>>>8||e>>>8)throw new RangeError("Byte out of range");let o=0;for(let n=7;n>=0;n--)o=o<<1^(o>>>7)*285,o^=(e>>>n&1)*t;return o}function bn(t,e,o=1,n=40,i=-1,r=!0){if(!(pt<=o&&o<=n&&n<=ft)||i<-1||i>7)throw new RangeError("Invalid value");let a,s;for(a=o;;a++){let f=He(a,e)*8,y=vn(t,a);if(y<=f){s=y;break}if(a>=n)throw new RangeError("Data too long")}for(let f of[mo,ho,go])r&&s<=He(a,f)*8&&(e=f);let c=[];for(let f of t){D(f.mode[0],4,c),D(f.numChars,_o(f.mode,a),c);for(let y of f.getData())c.push(y)}let p=He(a,e)*8;D(0,Math.min(4,p-c.length),c),D(0,(8-c.length%8)%8,c);for(let f=236;c.length<p;f^=253)D(f,8,c);let d=Array.from({length:Math.ceil(c.length/8)},()=>0);return c.forEach((f,y)=>d[y>>>3]|=f<<7-(y&7)),new lt(a,e,d,i)}function kn(t,e){let{ecc:o="L",boostEcc:n=!1,minVersion:i=1,maxVersion:r=40,maskPattern:a=-1,border:s=1}=e||{},c=typeof t=="string"?gn(t):Array.isArray(t)?[xo(t)]:void 0;if(!c)throw new Error(`uqr only supports encoding string and binary data, but got: ${typeof t}`);let p=bn(c,sn[o],i,r,a,n),d=Tn({version:p.version,maskPattern:p.mask,size:p.size,data:p.modules,types:p.types},s);return e?.invert&&(d.data=d.data.map(f=>f.map(y=>!y))),e?.onEncoded?.(d),d}function Tn(t,e=1){if(!e)return t;let{size:o}=t,n=o+e*2;t.size=n,t.data.forEach(r=>{for(let a=0;a<e;a++)r.unshift(!1),r.push(!1)});for(let r=0;r<e;r++)t.data.unshift(Array.from({length:n},a=>!1)),t.data.push(Array.from({length:n},a=>!1));let i=Q.Border;t.types.forEach(r=>{for(let a=0;a<e;a++)r.unshift(i),r.push(i)});for(let r=0;r<e;r++)t.types.unshift(Array.from({length:n},a=>i)),t.types.push(Array.from({length:n},a=>i));return t}function yo(t){return t.replace(/&/g,"&amp;").replace(/"/g,"&quot;").replace(/</g,"&lt;").replace(/>/g,"&gt;")}function To(t,e={}){let o=kn(t,e),{pixelSize:n=10,whiteColor:i="white",blackColor:r="black"}=e,a=o.size*n,s=o.size*n,c=`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${s} ${a}">`,p=[];for(let d=0;d<o.size;d++)for(let f=0;f<o.size;f++){let y=f*n,l=d*n;o.data[d][f]&&p.push(`M${y},${l}h${n}v${n}h-${n}z`)}return c+=`<rect fill="${yo(i)}" width="${s}" height="${a}"/>`,c+=`<path fill="${yo(r)}" d="${p.join("")}"/>`,c+="</svg>",c}var En=500,Sn=3e3,Cn=5e3,Mn=1e3,ut={comfyui:"ComfyUI",jupyter:"Jupyter"},Pn={stopped:["Stopped","faint"],starting:["Starting …","warn"],running:["Running","success"],restarting:["The connection broke; starting it again …","warn"]},An={gate:"protected by the secret in its link",jupyter:"protected by Jupyter's login",none:"NOT protected: everybody who knows the address has access"},Rn="Everybody who finds the address can then use ComfyUI, and through it this machine: its files, its network and its graphics card.",jn="Visitors need Jupyter's token or password, as always.",Ln="Visitors need the link. It contains a secret, which their browser then remembers.";function Eo({transport:t,traits:e}){let o=O(null),n=L(null),i=L(""),r=L(!0),a=L(""),s=L(""),c=io(),p=O(!0),d=e.target.value,f=ro(o,async C=>{let A=p.current,ee=A?null:e.target.value;try{let E=await t.get("tunnel/status",{target:ee},C);if(A&&E.state==="stopped"&&E.target!==e.target.value){let{value:$}=e.target;E=await t.get("tunnel/status",{target:$},C)}return p.current=!1,i.value="",A&&E.target!==e.target.value&&e.set({target:E.target}),!c.busy.value&&E.target===e.target.value&&(n.value=E),["stopped","running"].includes(E.state)?Sn:En}catch(E){return C.aborted||(i.value=se(E)),Cn}}),y=C=>c.run(async()=>{let A=a.value.trim();a.value="";let ee={target:d,protect:d==="comfyui"&&!r.value?!1:null,token:A||null,hostname:s.value.trim()||null,download:C||null,wait:!1};n.value=await t.post("tunnel/start",ee),f()}),l=()=>c.run(async()=>{await t.post("tunnel/stop",{target:d}),n.value=null,f()}),m=C=>{c.clear(),n.value=null,e.set({target:C}),f()},h=i.value?null:n.value,v=c.busy.value||!h,w=h!==null&&h.state!=="stopped",g=h?.state==="stopped"&&h.error,[b,x]=i.value?["The Jupyter server does not answer","error"]:g?["Failed","error"]:h?Pn[h.state]??[h.state,"faint"]:["Connecting …","faint"],B=d==="comfyui",q=`Tunnel to ${ut[d]}: ${b}${h?.url?` at ${h.url}`:""}`;return pe(()=>{h&&e.summary.value!==q&&e.set({summary:q})},[h,q,e]),u("div",{class:"cd-rows",ref:o,children:[u(eo,{label:"Make reachable",value:d,options:Object.entries(ut),onChange:m}),!w&&u(M,{children:[B&&u(to,{label:"Only with the secret link",checked:r.value,disabled:c.busy.value,onChange:C=>{r.value=C}}),B&&!r.value?u(H,{text:Rn}):u(Y,{children:B?Ln:jn}),u("details",{children:[u("summary",{children:"With an address of your own"}),u("div",{class:"cd-rows",children:[u(rt,{label:"Token",type:"password",placeholder:"of a tunnel in your Cloudflare account",value:a.value,disabled:c.busy.value,onInput:C=>{a.value=C}}),u(rt,{label:"Hostname",placeholder:"its public name; may be left out",value:s.value,disabled:c.busy.value,onInput:C=>{s.value=C}})]})]})]}),u("div",{class:"cd-line",children:[u(Be,{label:"Start",icon:"globe",hint:"Start the tunnel",primary:!0,disabled:v||w,onClick:()=>y(!1)}),u(Be,{label:"Stop",icon:"stop",hint:"End the tunnel",disabled:v||!w,onClick:l}),u(oo,{text:b,colour:x})]}),h?.url&&u(Bn,{url:h.url,link:h.access_url??""}),h?.running&&u($n,{status:h}),h?.error&&u(Nn,{status:h}),h?.state==="stopped"&&h.details?.can_download&&u(M,{children:[u(Y,{children:["cloudflared is Cloudflare's program for tunnels. The button downloads it from its"," ",u($e,{href:"https://github.com/cloudflare/cloudflared/releases",children:"release"})," (about 40 MB) into the data folder of the Jupyter server, checks its SHA-256 and starts the tunnel. By using it you agree to"," ",u($e,{href:"https://www.cloudflare.com/website-terms/",children:"Cloudflare's terms"}),"."]}),u("div",{children:u(Be,{label:"Download cloudflared",icon:"download",hint:"Download cloudflared on the server, then start the tunnel",primary:!0,disabled:v,onClick:()=>y(!0)})})]}),u(H,{text:i.value||c.error.value})]})}function Bn({url:t,link:e}){let o=L(!1),n=e!==""&&new TextEncoder().encode(e).length<=Mn,i=oe(()=>!n||!o.value?"":`data:image/svg+xml,${encodeURIComponent(To(e,{border:4,ecc:"M"}))}`,[e,n,o.value]);return u("div",{class:"comfydeploy-link",children:[u("div",{class:"cd-line",children:[u($e,{href:e||t,title:e,children:t}),u(no,{label:"Copy link",text:e})]}),n&&u("details",{onToggle:r=>{o.value=r.currentTarget.open},children:[u("summary",{children:"QR code"}),i&&u("img",{alt:"QR code of the link",src:i})]})]})}function $n({status:{protection:t,target:e,port:o}}){let n=An[t]??t;return t==="none"?u(H,{text:`${n}.`}):u(Y,{children:["Leads to ",ut[e]," (port ",o,"), ",n,t==="gate"?". Copy the link to hand it on; a new start makes another secret.":"."]})}function Nn({status:{error:t,hint:e,details:o}}){let n=e&&!o?.can_download?`${t} (${e})`:t,i=Array.isArray(o?.log)?o.log.join(`
`):"";return u(H,{text:n??"",children:i&&u("details",{children:[u("summary",{children:"The log of cloudflared"}),u("pre",{class:"cd-log",children:i})]})})}var On={TunnelPanel:Eo},zn="The kernel of this panel was restarted or has ended. Run this cell again to use the panel; queued runs continue.",In="The kernel has ended: the panel goes on, but Python does not learn of it.";function Ur(t,e){let o=new ae(t),n=co(t,o),i=I(null),r=I("there"),a=()=>!!e.parentElement?.closest(".comfydeploy-panel"),s=On[n.component.value]??Fn;e.id||=ie(),e.classList.add("comfydeploy-panel");let c=Yt(e),p=ao(t,e,()=>{r.value="gone",i.value instanceof ve&&i.value.end()}),d=F(()=>{let y=n.server.value;i.value||!y.instance||lo(y).then(l=>{i.value=l===null?new ve(t):new Ie(l)})});function f(){let y=i.value,l=r.value==="gone",m=n.record.value?`.${n.record.value}, .jp-OutputArea-child:has(.${n.record.value}), .output_area:has(.${n.record.value}) { display: none }`:"";return u(M,{children:[u("style",{children:Gt+m}),l&&!y?.base&&!a()&&u(H,{text:zn}),l&&y?.base&&!a()&&u(Y,{live:!0,children:In}),y?u("fieldset",{class:"cd-panel comfydeploy-view",disabled:l&&y.base===null,children:u(s,{transport:y,traits:n,kernel:r})}):u(Y,{live:!0,children:"Connecting …"}),u(H,{text:n.error.value})]})}return Ye(u(f,{}),e),()=>{Ye(null,e),d(),p(),c(),o.end()}}function Fn({traits:t}){return u(H,{text:`This version has no panel ${t.component.value}`})}export{Ur as mount};
